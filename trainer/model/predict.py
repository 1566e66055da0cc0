# SPDX-License-Identifier: MIT
"""Models on sets of pictures: device, threads, predictions, accuracy."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer.data import Pictures


def device() -> torch.device:
    """The device that models compute on: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def predictions(model: nn.Module, pictures: Pictures, batch: int = 500, label: str = "") -> Iterator[Tensor]:
    """Logits [batch, classes] of all pictures in order, in evaluation mode, on the CPU."""
    where = device()
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
    if where.type != "cpu":
        return torch.cuda.is_bf16_supported()
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
