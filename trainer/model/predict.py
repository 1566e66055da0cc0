# SPDX-License-Identifier: MIT
"""Models on sets of pictures: device, threads, predictions, accuracy."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer.data import Pictures
from trainer.errors import TrainerError, require

AUTO = "auto"
DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")  # values of compute.device
chosen: ContextVar[torch.device | None] = ContextVar("device", default=None)  # set by computing_on alone


def find_device(wanted: str = AUTO) -> torch.device:
    """The device of one of DEVICES; auto: a CUDA GPU, else Apple's (MPS), else the CPU. TrainerError without it."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    together = "RANK" in os.environ  # several processes exchange tensors of CUDA and of the CPU only
    if wanted == AUTO:
        return torch.device("cuda" if cuda else "mps" if mps and not together else "cpu")
    where, count = torch.device(wanted), torch.cuda.device_count() if cuda else 0
    if where.type == "cuda" and (where.index or 0) >= count:
        raise TrainerError(f"compute.device is {wanted}: torch {torch.__version__} sees {count} CUDA GPUs")
    require(where.type != "mps" or mps, f"compute.device is mps: torch {torch.__version__} sees no Apple GPU")
    require(where.type != "mps" or not together, "compute.device is mps: torchrun's processes need cuda or cpu")
    return where


@contextmanager
def computing_on(wanted: str) -> Iterator[str]:
    """Let models compute on a device, by its name in compute.device; yields words that say which it is."""
    where = find_device(wanted)
    before = chosen.set(where)
    try:
        yield f"computing on {described(where)}" + (" (compute.device=auto)" if wanted == AUTO else "")
    finally:
        chosen.reset(before)


def described(where: torch.device) -> str:
    """Words for a device."""
    if where.type == "cuda":
        return f"{where}, {torch.cuda.get_device_name(where)}"
    return "mps, Apple's GPU, and on the CPU in SPEC's integers" if where.type == "mps" else "the CPU"


def device(model: nn.Module | None = None) -> torch.device:
    """The device that models compute on; a student in SPEC's integers needs float64, which MPS has not."""
    where = chosen.get() or find_device()
    return torch.device("cpu") if where.type == "mps" and getattr(model, "calibrated", False) else where


def predictions(model: nn.Module, pictures: Pictures, batch: int = 500, label: str = "") -> Iterator[Tensor]:
    """Logits [batch, classes] of all pictures in order, in evaluation mode, on the CPU."""
    where = device(model)
    model.eval().to(where)
    steps = math.ceil(len(pictures) / batch)
    for part in tqdm(pictures.ordered(batch), label, steps, leave=False, disable=None if label else True):
        with torch.no_grad(), where:
            yield model(part.images.to(where)).cpu()


def accuracy(model: nn.Module, pictures: Pictures) -> float:
    """Top-1 accuracy in percent."""
    hits = torch.cat(list(predictions(model, pictures))).argmax(1) == pictures.targets
    return 100 * hits.double().mean().item()


def autocast(wanted: bool) -> torch.autocast:
    """bfloat16 autocast on the device, if wanted and if the device computes in bfloat16.

    A CPU without instructions for it would only round, slowly.
    """
    where = device()
    return torch.autocast(where.type, torch.bfloat16, enabled=wanted and has_bfloat16(where))


def has_bfloat16(where: torch.device) -> bool:
    """Whether a device has instructions for bfloat16."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if where.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16", "bf16", "sve_bf16"))


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads (0: its default)."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
