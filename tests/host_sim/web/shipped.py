# SPDX-License-Identifier: MIT
"""Stand-ins for models that ship beside fashion_mnist: their shapes with random weights."""

from pathlib import Path

import numpy as np
import torch

from tests.tiny import images_for, small, untrained
from trainer.integer.calibrate import calibrate
from trainer.modelfile.export import Int8Head, export

# As trainer/configs/eyes.toml, with 200 labels, and a network for 32 x 32 as trainer/configs/cifar10.toml.
EYES = small(
    "eyes",
    img_size=64,
    channels=3,
    classes=200,
    stem=((32, 3, 2, 1), (64, 3, 2, 1), (96, 3, 1, 1), (160, 3, 2, 1)),
    patch=(3, 1, 1),
    embed_dim=192,
    depth=5,
    num_heads=3,
    mlp_ratio=3,
)
CIFAR10 = small("cifar10", img_size=32, channels=3, patch_size=8, embed_dim=96, depth=2, num_heads=3, mlp_ratio=2)


def write_models(folder: Path) -> None:
    """eyes.safetensors, with an int8 head (SPEC 4.8), and cifar10.safetensors."""
    for blueprint in (EYES, CIFAR10):
        student = untrained(blueprint)
        with torch.no_grad():
            calibrate(student, images_for(blueprint, 6))
        head = own_head(student.architecture.embed_dim, blueprint.labels) if blueprint is EYES else None
        export(student, folder / f"{blueprint.name}.safetensors", head)


def own_head(width: int, labels: tuple[str, ...]) -> Int8Head:
    """An int8 head with random weights."""
    random = np.random.default_rng(3)
    weight = random.integers(-128, 128, (len(labels), width)).astype(np.int8)
    multiplier = np.full(len(labels), 2**12, np.int32)
    return Int8Head(labels, weight, multiplier, np.zeros(len(labels), np.int32), 16, "token", None)
