# SPDX-License-Identifier: MIT
"""SPEC 3.5: from uint8 pixels to int8."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.integer.numbers import sat8
from trainer.model.pixels import Pixels


@dataclass(frozen=True)
class Normalization:
    """SPEC 3.5: two integers for each channel."""

    multiplier: list[int]
    offset: list[int]

    @classmethod
    def fold(cls, pixels: Pixels, frac: int) -> Normalization:
        """From the mean and standard deviation of pixel / 255 to an int8 with `frac`."""
        unit = 2.0 ** (16 + frac)
        offsets = [round(-unit * mean / std) + (1 << 15) for mean, std in zip(pixels.mean, pixels.std, strict=True)]
        return cls([round(unit / (255 * std)) for std in pixels.std], offsets)

    def __call__(self, images: Tensor) -> Tensor:
        """images: uint8 [..., channels]; returns x of SPEC 3.5."""
        multiplier, offset = (torch.tensor(values, device=images.device) for values in (self.multiplier, self.offset))
        return sat8((images.long() * multiplier + offset) >> 16).float()
