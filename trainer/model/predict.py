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


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads (0: its default)."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
