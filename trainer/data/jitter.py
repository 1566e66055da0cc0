# SPDX-License-Identifier: MIT
"""Augmentation of whole batches as tensors: random resized crop, mirroring, brightness, contrast and saturation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.settings import DataSettings

COARSE = (3 / 8, 3 / 4)
ASPECT = math.log(4 / 3)  # of crops, wide and high alike, as in timm


@dataclass(frozen=True)
class Jitter:
    """values: float [count, 8], for each picture: width and height of the crop as parts of the side, 1 or -1
    (mirrored), its offset to the right and down as parts (-1 to 1) of the room there is, and factors of saturation,
    contrast and brightness."""

    values: Tensor

    @classmethod
    def draw(cls, settings: DataSettings, count: int, generator: torch.Generator) -> "Jitter":
        """Random changes of `count` pictures."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=generator) * (high - low) + low

        colour, saturation = settings.color_jitter, settings.saturation or settings.color_jitter
        area, ratio = uniform(settings.scale_min, 1), torch.exp(uniform(-ASPECT, ASPECT))
        mirrored = torch.where(uniform(0, 1) < settings.hflip, -1.0, 1.0)
        sides = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
        offsets = uniform(-1, 1), uniform(-1, 1)
        ranges = (saturation, colour, colour)
        factors = [uniform(1 - spread, 1 + spread) for spread in ranges]
        return cls(torch.stack([*sides, mirrored, *offsets, *factors], 1))

    def of(self, chosen: Tensor) -> "Jitter":
        """Those of the pictures `chosen`, int64 [count]."""
        return Jitter(self.values[chosen])


def jittered(images: Tensor, jitter: Jitter) -> Tensor:
    """uint8 [batch, size, size, channels], changed; crops are resampled bilinearly and mirrored at the border."""
    width, height, mirrored, right, down, saturation, contrast, brightness = jitter.values.to(images.device).unbind(1)
    theta = images.new_zeros((len(images), 2, 3), dtype=torch.float32)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
    theta[:, 0, 2], theta[:, 1, 2] = right * (1 - width), down * (1 - height)
    pixels = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    pixels = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    grey = pixels.mean(1, keepdim=True)
    pixels = grey + (pixels - grey) * saturation[:, None, None, None]
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (mean + (pixels - mean) * contrast[:, None, None, None]) * brightness[:, None, None, None]
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def coarsened(images: Tensor, part: float) -> Tensor:
    """uint8 [batch, size, size, channels], of which the first round(part * batch) pictures have less detail.

    They are shrunk to one side of COARSE times size, drawn from torch's random numbers, and enlarged again bilinearly,
    as SPEC 3.4 does with small pictures.
    """
    count, size = round(part * len(images)), images.shape[1]
    if not count:
        return images
    low, high = (max(1, round(bound * size)) for bound in COARSE)
    # Drawn on the CPU, so that every device sees the same.
    small = resized(images[:count], int(torch.randint(low, high + 1, ())))
    return torch.cat([resized(small, size), images[count:]])


def resized(images: Tensor, side: int) -> Tensor:
    """uint8 pictures [batch, size, size, channels] as [batch, side, side, channels], bilinear and antialiased."""
    if images.shape[1] == side:
        return images
    pixels = images.permute(0, 3, 1, 2).float()
    pixels = functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
