# SPDX-License-Identifier: MIT
"""Write pictures in the formats that the board reads, binary PGM and PPM: the demo's, and any photo."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trainer.data import FASHION_MNIST_LABELS, load_fashion_mnist
from trainer.data.decode import read_picture, square
from trainer.data.settings import LARGEST_SIDE
from trainer.errors import TrainerError, one_line, require
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


def check_size(size: int | None) -> None:
    """TrainerError for a side in pixels that the board does not read."""
    require(size is None or 1 <= size <= LARGEST_SIDE, f"size {size}: must be 1 to {LARGEST_SIDE}")


def is_pnm(path: Path) -> bool:
    """Whether a path to write to names a picture, not a folder."""
    return path.suffix.lower() in (".ppm", ".pgm") and not path.is_dir()


def output_name(photo: Path, grey: bool) -> str:
    """Name of the file that a photo becomes in a folder."""
    return photo.with_suffix(".pgm" if grey else ".ppm").name


def photo_to_ppm(photo: Path, out: Path | None = None, size: int | None = None, grey: bool = False) -> Path:
    """Write a photo's middle square in a format that the board reads; prints and returns the file's path.

    out: a .ppm or .pgm file, or a folder, made if it is not there; by default the photo's folder; size: side in pixels,
    by default the photo's own, at most 512. Resized as on the board (SPEC 3.4): at the network's own size the board
    computes on exactly these pixels.
    """
    check_size(size)
    image = read_picture(photo)
    name = output_name(photo, grey)
    path = photo.parent / name if out is None else out if is_pnm(out) else out / name
    if path.exists() and path.samefile(photo):
        raise TrainerError(f"{path}: is the photo itself; name another file to write to")
    side, before = size or min(*image.size, PHOTO_SIDE), ", in place of an older file" if path.exists() else ""
    write_pnm(square(image, side, 1 if grey else 3), path)
    print(f"{path}: {side} x {side}, {'grey' if grey else 'colour'}, {path.stat().st_size} bytes{before}")
    return path


def convert_photos(
    photos: Sequence[Path], out: Path | None = None, size: int | None = None, grey: bool = False
) -> list[Path]:
    """`photo_to_ppm` of each photo; the files' paths. One that cannot be converted gets a line, and the rest goes on;
    TrainerError counts them at the end.

    No photo overwrites another, or the file of another: a board's FAT file system knows no upper and lower case.
    """
    photos = list(dict.fromkeys(photos))
    if len(photos) == 1:
        return [photo_to_ppm(photos[0], out, size, grey)]
    require(out is None or not is_pnm(out), f"--out {out}: must be a folder for more than one photo")
    check_size(size)
    given = {photo.resolve() for photo in photos}
    taken: dict[tuple[Path, str], Path] = {}
    written = []
    for photo in photos:
        path = (photo.parent if out is None else out) / output_name(photo, grey)
        place = path.parent.resolve(), path.name.casefold()
        others = given - {photo.resolve()}
        try:
            require(place not in taken, f"{photo}: would overwrite {path}, made from {taken.get(place)}; rename one")
            require(path.resolve() not in others, f"{photo}: would overwrite {path}, one of the photos; pass --out")
            written.append(photo_to_ppm(photo, out, size, grey))
            taken[place] = photo
        except TrainerError as error:
            print(f"trainer: {one_line(error)}", file=sys.stderr, flush=True)
    require(len(written) == len(photos), f"{len(photos) - len(written)} of {len(photos)} photos not converted")
    return written
