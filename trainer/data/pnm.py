# SPDX-License-Identifier: MIT
"""Write pictures in the formats that the board reads, binary PGM and PPM: the demo's, and any photo."""

from pathlib import Path

import numpy as np
import torch

from trainer.data import FASHION_MNIST_LABELS, load_fashion_mnist
from trainer.data.decode import read_picture, square
from trainer.data.settings import LARGEST_SIDE
from trainer.errors import TrainerError, require
from trainer.files import write_atomically

PHOTO_SIDE = 512  # default side of a photo in pixels: 768 kB


def write_pnm(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 [height, width, channels] as PGM (one channel) or PPM (three)."""
    height, width, channels = pixels.shape
    magic = "P5" if channels == 1 else "P6"
    write_atomically(f"{magic}\n{width} {height}\n255\n".encode() + pixels.tobytes(), path)


def file_name(index: int, label: str) -> str:
    """ "0_t-shirt_top.pgm" for class 0, T-shirt/top: classify.py reads the class from the leading number."""
    return f"{index}_{label.lower().replace('/', '_').replace(' ', '_')}.pgm"


def write_demo_images(folder: Path, data: Path | None = None) -> list[Path]:
    """Write the first picture of each class in the test set; returns the ten files' paths."""
    test = load_fashion_mnist("t10k", data)
    paths = []
    for index, label in enumerate(FASHION_MNIST_LABELS):
        first = int(torch.nonzero(test.targets == index)[0, 0])
        path = folder / file_name(index, label)
        write_pnm(test.images[first].numpy(), path)
        paths.append(path)
    return paths


def photo_to_ppm(photo: Path, out: Path | None = None, size: int | None = None, grey: bool = False) -> Path:
    """Write a photo's middle square in a format that the board reads; prints and returns the file's path.

    out: a file or folder, by default the photo's folder; size: side in pixels, by default the photo's own, at most 512.
    Resized as on the board (SPEC 3.4): at the network's own size the board computes on exactly these pixels.
    """
    require(size is None or 1 <= size <= LARGEST_SIDE, f"size {size}: must be 1 to {LARGEST_SIDE}")
    image = read_picture(photo)
    name = photo.with_suffix(".pgm" if grey else ".ppm").name
    path = (out or photo.parent) / name if out is None or out.is_dir() else out
    if path.exists() and path.samefile(photo):
        raise TrainerError(f"{path}: is the photo itself; name another file to write to")
    side = size or min(*image.size, PHOTO_SIDE)
    write_pnm(square(image, side, 1 if grey else 3), path)
    print(f"{path}: {side} x {side}, {'grey' if grey else 'colour'}, {path.stat().st_size} bytes")
    return path
