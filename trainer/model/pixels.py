# SPDX-License-Identifier: MIT
"""How pixels are normalised, in float."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import require


@dataclass(frozen=True)
class Pixels:
    """Mean and standard deviation of pixel / 255, for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.mean) == len(self.std) in (1, 3), "mean and std need one or three numbers each")
        require(min(self.std) > 0, "std must be above 0")

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [batch, height, width, channels] to float [batch, channels, height, width]."""
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
