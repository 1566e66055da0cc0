# SPDX-License-Identifier: MIT
"""Small untrained students with sizes and weights as unpleasant as the format allows."""

import gzip
import struct
from pathlib import Path
from typing import Any

import torch

from trainer.experiments.random_weights import randomize
from trainer.integer.calibrate import calibrate
from trainer.model.layers import TernarySettings
from trainer.model.pixels import Pixels
from trainer.model.quantize import Rule
from trainer.model.student import Blueprint, Student
from trainer.model.vit import ModelSettings


def small(
    name: str,
    timm: str = "vit_tiny_patch16_224",
    img_size: int = 28,
    channels: int = 1,
    classes: int = 10,
    stem: tuple = (),
    patch: tuple = (),
    rule: Rule | None = None,
    **options: Any,
) -> Blueprint:
    """A blueprint; `options` are those of the timm model."""
    pixels = Pixels((0.286, 0.4, 0.5)[:channels], (0.353, 0.2, 0.3)[:channels])
    labels = tuple(f"class {index}" for index in range(classes))
    model = ModelSettings(timm, options, [list(stage) for stage in stem], list(patch))
    return Blueprint(name, model, img_size, labels, pixels, TernarySettings(rule or Rule()))


# Nothing is a multiple of 16 or 5.
ODD = small("odd", classes=7, patch_size=14, embed_dim=33, depth=2, num_heads=3, mlp_ratio=17.5 / 33)
# One token beside the class token, heads of width 1, one class.
SINGLE = small("single", classes=1, patch_size=28, embed_dim=4, depth=1, num_heads=4, mlp_ratio=0.3)
# One wide head: the multipliers of q are bounded by SPEC 7.7.
WIDE = small("wide", patch_size=4, embed_dim=128, depth=1, num_heads=1, mlp_ratio=1.25)
# Red, green and blue, with ReLU.
COLOUR = small(
    "colour",
    img_size=20,
    channels=3,
    classes=3,
    patch_size=5,
    embed_dim=24,
    depth=1,
    num_heads=2,
    mlp_ratio=2,
    act_layer="relu",
)
# A stem whose kernels, strides and paddings all differ, and an overlapping patch embedding that pads.
STEM = small(
    "stem",
    img_size=29,
    channels=3,
    stem=((5, 5, 2, 1), (7, 3, 1, 2), (17, 2, 2, 0)),
    patch=(3, 2, 1),
    embed_dim=20,
    depth=1,
    num_heads=2,
    mlp_ratio=1.5,
)
# LayerScale, positions without the class token's, SiLU, least squares.
SCALED = small(
    "scaled",
    "deit3_small_patch16_224",
    img_size=24,
    patch_size=8,
    embed_dim=18,
    depth=2,
    num_heads=3,
    mlp_ratio=2,
    act_layer="silu",
    rule=Rule("least_squares"),
)
# No bias in q, k and v, one learned scale for each tensor.
LEARNED = small(
    "learned",
    img_size=12,
    patch_size=4,
    embed_dim=16,
    depth=1,
    num_heads=2,
    mlp_ratio=2,
    qkv_bias=False,
    rule=Rule("learned", "tensor"),
)
BLUEPRINTS = (ODD, SINGLE, WIDE, COLOUR, STEM, SCALED, LEARNED)


def images(count: int, size: int = 28, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """uint8 [count, size, size, channels]: blobs, noise, black and white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, channels, 7, 7), generator=generator, dtype=torch.uint8).float()
    result = torch.nn.functional.interpolate(coarse, size, mode="bilinear").to(torch.uint8).permute(0, 2, 3, 1)
    result = result.contiguous()
    result[::7] = torch.randint(0, 256, result[::7].shape, generator=generator, dtype=torch.uint8)
    result[0], result[-1] = 0, 255
    return result


def images_for(blueprint: Blueprint, count: int, seed: int = 0) -> torch.Tensor:
    """`images` of a blueprint's size and channels."""
    return images(count, blueprint.img_size, len(blueprint.pixels.mean), seed)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Grey pictures of 28 x 28 without their channel, uint8 [count, 28, 28]."""
    return images(count, seed=seed)[..., 0]


def write_idx(path: Path, array: torch.Tensor) -> None:
    """A uint8 array as a compressed file of Fashion-MNIST's format."""
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.numpy().tobytes(), 1))


def untrained(blueprint: Blueprint, seed: int = 0) -> Student:
    """A student whose weights, scales, gammas, betas, biases and statistics all vary, not calibrated."""
    torch.manual_seed(seed)
    student = Student(blueprint)
    randomize(student)
    student.start_learned_scales()
    return student.eval()


def calibrated(blueprint: Blueprint, seed: int = 0) -> Student:
    """The same, calibrated on `images`."""
    student = untrained(blueprint, seed)
    calibrate(student, images_for(blueprint, 24, seed))
    return student
