# SPDX-License-Identifier: MIT
"""Data sets: Fashion-MNIST, or folders of pictures; training batches, and pictures as the board sees them."""

from trainer.data.base import Batch, Pictures
from trainer.data.fashion_mnist import FASHION_MNIST_LABELS, load_fashion_mnist
from trainer.data.memory import MemoryPictures
from trainer.data.opening import open_data, open_test
from trainer.data.settings import DataSettings

__all__ = [
    "FASHION_MNIST_LABELS",
    "Batch",
    "DataSettings",
    "MemoryPictures",
    "Pictures",
    "load_fashion_mnist",
    "open_data",
    "open_test",
]
