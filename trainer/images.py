# SPDX-License-Identifier: MIT
"""The pictures of the demo: the first of each class in the test set, as PGM files."""

from pathlib import Path

import torch

from trainer.data import FASHION_MNIST_LABELS, load_fashion_mnist


def file_name(index: int, label: str) -> str:
    """ "0_t-shirt_top.pgm" for class 0, T-shirt/top: classify.py reads the class from the leading number."""
    return f"{index}_{label.lower().replace('/', '_').replace(' ', '_')}.pgm"


def write_demo_images(folder: Path, data: Path | None = None) -> list[Path]:
    """Write the ten files; returns their paths."""
    test = load_fashion_mnist("t10k", data)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, label in enumerate(FASHION_MNIST_LABELS):
        first = int(torch.nonzero(test.labels == index)[0, 0])
        image = test.images[first].numpy()
        path = folder / file_name(index, label)
        path.write_bytes(b"P5\n%d %d\n255\n" % (image.shape[1], image.shape[0]) + image.tobytes())
        paths.append(path)
    return paths
