# SPDX-License-Identifier: MIT
"""Sizes of whole model files, header and labels included, for timm's models by name.

Sizes do not depend on the values of weights and scales, which are random here.
"""

import tempfile
from pathlib import Path

import torch

from trainer.data.listing import readable_names
from trainer.files import write_json
from trainer.integer.calibrate import calibrate
from trainer.model.pixels import Pixels
from trainer.model.student import Blueprint, Student
from trainer.model.vit import ModelSettings
from trainer.modelfile.export import export

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 labels of ImageNet's folders."""
    from timm.data import ImageNetInfo

    return tuple(readable_names(ImageNetInfo().label_names()))


MODELS = {
    "deit3_small_patch16_224": (224, imagenet_labels),
    "deit3_small_patch16_384": (384, imagenet_labels),
    "deit_tiny_patch16_224": (224, lambda: CIFAR10),
}


def random_student(name: str, size: int, labels: tuple[str, ...]) -> Student:
    """An untrained student, calibrated on one picture of noise."""
    torch.manual_seed(0)
    student = Student(Blueprint(name, ModelSettings(name), size, tuple(labels), IMAGENET)).eval()
    noise = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    calibrate(student, noise)
    return student


def measure(output: Path, keep: Path | None = None) -> dict[str, int]:
    """Export all MODELS, write {timm name: bytes} as JSON to `output` and return it. keep: a folder for the files."""
    sizes = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, (size, labels) in MODELS.items():
            sizes[name] = export(random_student(name, size, labels()), folder / f"{name}.safetensors")
            print(f"{name}: {sizes[name]:,} bytes", flush=True)
    write_json(sizes, output)
    return sizes
