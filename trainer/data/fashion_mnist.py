# SPDX-License-Identifier: MIT
"""Fashion-MNIST from its idx files."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from trainer.data.memory import MemoryPictures
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


def load_fashion_mnist(
    split: str, directory: Path | None = None, shift: int = 2, mirrored: bool = True
) -> MemoryPictures:
    """Load "train" (60,000 pictures) or "t10k" (10,000) from the four idx files in `directory`."""
    directory = directory or FASHION_MNIST_DIR
    images = read_idx(directory / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(directory / f"{split}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise TrainerError(f"{directory}: {len(images)} {split} images but {len(labels)} labels")
    if images.shape[1:] != (28, 28) or labels.ndim != 1 or labels.max(initial=0) >= len(FASHION_MNIST_LABELS):
        raise TrainerError(f"{directory}: {split} is not Fashion-MNIST: 28 x 28 pixels, labels 0 to 9")
    return MemoryPictures(
        images=torch.tensor(images).unsqueeze(3),
        targets=torch.tensor(labels, dtype=torch.int64),
        labels=FASHION_MNIST_LABELS,
        shift=shift,
        mirrored=mirrored,
        name=f"Fashion-MNIST {split}",
    )
