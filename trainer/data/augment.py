# SPDX-License-Identifier: MIT
"""Training pictures of a folder: timm's augmentation, seeded picture by picture."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import Grayscale

from trainer.data.settings import DataSettings
from trainer.errors import TrainerError

ERASED = 128  # grey of an erased rectangle


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed random, numpy and torch (CPU) from `key` alone; their states are restored afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(" ".join(map(str, key)))
    np.random.seed(random.getrandbits(32))
    # Not torch.manual_seed: it would reseed a GPU, too.
    torch.default_generator.manual_seed(random.getrandbits(63))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class Erase:
    """timm's RandomErasing for pictures that are not normalised: uint8 [channels, height, width], in place."""

    def __init__(self, probability: float):
        self.erase = RandomErasing(probability, device="cpu")

    def __call__(self, pixels: Tensor) -> Tensor:
        # timm erases to 0.
        return self.erase(pixels ^ ERASED) ^ ERASED


class Augmentation:
    """Augmentation according to the settings; TrainerError for a policy that timm does not know."""

    def __init__(self, settings: DataSettings):
        try:
            self.transform = create_transform(
                (3, settings.size, settings.size),
                is_training=True,
                scale=(settings.scale_min, 1.0),
                hflip=settings.hflip,
                color_jitter=settings.color_jitter,
                auto_augment=settings.auto_augment or None,
                interpolation="bilinear",  # as SPEC 3.4, see trainer/experiments/resampling.py
                normalize=False,
            )
        except (AssertionError, ValueError, KeyError, IndexError) as error:
            raise TrainerError(f"auto_augment {settings.auto_augment!r} is not a timm policy ({error})") from None
        steps = self.transform.transforms
        if settings.channels == 1:
            steps.insert(len(steps) - 1, Grayscale())  # before the conversion to a tensor; Pillow's grey is SPEC 3.2
        if settings.reprob:
            steps.append(Erase(settings.reprob))

    def __call__(self, image: Image.Image, *key: int) -> np.ndarray:
        """uint8 [size, size, channels] of an RGB picture, depending on `key` alone."""
        with seeded(*key):
            return self.transform(image).permute(1, 2, 0).contiguous().numpy()
