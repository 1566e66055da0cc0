# SPDX-License-Identifier: MIT
"""Fashion-MNIST from its idx files, and batches with augmentation on tensors."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.errors import TrainerError

FASHION_MNIST_DIR = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Split:
    """Images uint8 [count, height, width] and labels int64 [count]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int | None, stop: int | None) -> "Split":
        """The pictures of the slice start:stop."""
        return Split(self.images[start:stop], self.labels[start:stop])


def read_idx(path: Path) -> np.ndarray:
    """Read a gzip-compressed idx file of unsigned bytes (magic 0x0000080N, N = number of dimensions).

    Raises TrainerError that names the file when it is missing, cut short or of another type.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise TrainerError(
            f"{path}: not found; install Debian's package dataset-fashion-mnist or pass --data DIR"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise TrainerError(f"{path}: not a whole gzip file ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or not raw[3]:
        raise TrainerError(f"{path}: idx magic is {raw[:4].hex()}, expected 000008NN (unsigned bytes)")
    header = 4 + 4 * raw[3]
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4) if len(raw) >= header else (0,)
    if len(raw) != header + int(np.prod(shape)):
        raise TrainerError(f"{path}: {len(raw)} bytes do not fit the idx shape {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def load_fashion_mnist(split: str, directory: Path | None = None) -> Split:
    """Load "train" (60,000 pictures) or "t10k" (10,000) from the four idx files in `directory`."""
    directory = directory or FASHION_MNIST_DIR
    images = read_idx(directory / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(directory / f"{split}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise TrainerError(f"{directory}: {len(images)} {split} images but {len(labels)} labels")
    if images.shape[1:] != (28, 28) or labels.ndim != 1 or labels.max(initial=0) >= len(FASHION_MNIST_LABELS):
        raise TrainerError(f"{directory}: {split} is not Fashion-MNIST: 28 x 28 pixels, labels 0 to 9")
    return Split(torch.tensor(images), torch.tensor(labels, dtype=torch.int64))


def augment(images: Tensor, generator: torch.Generator, shift: int = 2) -> Tensor:
    """Mirror half of the pictures left to right and move each by up to `shift` pixels, zeros moving in.

    images: uint8 [batch, height, width]; returns the same shape and type.
    """
    count, height, width = images.shape
    padded = torch.nn.functional.pad(images, (shift, shift, shift, shift))
    offset = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    rows = offset[0][:, None] + torch.arange(height)
    columns = offset[1][:, None] + torch.arange(width)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def batches(split: Split, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented training batches (images uint8 [size, height, width], labels int64 [size]).

    Order and augmentation depend on seed and epoch alone, so a resumed run sees the same batches.
    The last incomplete batch is left out.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(split), generator=generator)
    for start in range(0, len(split) - size + 1, size):
        chosen = order[start : start + size]
        yield augment(split.images[chosen], generator), split.labels[chosen]
