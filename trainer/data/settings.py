# SPDX-License-Identifier: MIT
"""The settings of a data set, checked before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import require

SOURCES = ("fashion_mnist", "folder")
BALANCES = ("auto", "on", "off")
UNEVEN = 3  # times as many pictures of the largest class as of the smallest, above which auto balances
LARGEST_SIDE = 4096  # SPEC 3.1
MOST_VIEWS = 1000
MOST_GB = 100_000


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """source: "fashion_mnist" (28 x 28, grey) or "folder" (one of pictures per class, see trainer/data/listing.py).

    path: the folder, or a zip file of one; by default the folder of Debian's package for Fashion-MNIST
    size, channels: of the pictures that the network sees; channels 1 (grey) or 3
    validation: pictures held out of the training set; 0 for a folder that has val/: all of val/
    hflip: fraction of the training pictures that is mirrored; for Fashion-MNIST 0 or 0.5
    shift: Fashion-MNIST: largest shift of a training picture in pixels
    scale_min: folder: smallest fraction of a picture's area that a training crop shows
    color_jitter: folder: range of brightness, contrast and saturation; timm ignores it with auto_augment
    auto_augment: folder: a policy of timm, as "rand-m7-mstd0.5"; "" for none
    reprob: folder: fraction of the training pictures in which a rectangle is erased to grey
    workers: folder: processes that read pictures; 0: the training process reads them
    memory: folder: read all pictures once, keep them at the network's size, and augment whole batches; for many small
        ones. A zip file is always read so
    views: with memory: number of augmented versions of each picture; 0: a new one in every epoch. With a finite number
        the teacher's outputs are computed once (compute.table)
    saturation: with memory: range of the saturation alone, color_jitter then is that of brightness and contrast; 0: one
        range for all three
    balance: folder: "on" draws training pictures of every class equally often; "auto" does if the largest class has
        over 3 times as many as the smallest; "off" draws every picture equally often. Quick training weighs classes
        the same unless it is off
    cache_gb: folder: most gigabytes of shrunk photos that are kept on disk, so that large ones are decoded once; 0 for
        none
    """

    source: str
    size: int
    channels: int
    validation: int
    path: str = ""
    hflip: float = 0.5
    shift: int = 2
    scale_min: float = 0.35
    color_jitter: float = 0.3
    auto_augment: str = ""
    reprob: float = 0.0
    workers: int = 2
    memory: bool = False
    views: int = 0
    saturation: float = 0.0
    balance: str = "auto"
    cache_gb: float = 4.0

    def __post_init__(self) -> None:
        require(self.source in SOURCES, f"source is {self.source!r}, must be one of {', '.join(SOURCES)}")
        require(1 <= self.size <= LARGEST_SIDE, f"size must be 1 to {LARGEST_SIDE}")
        require(self.channels in (1, 3), "channels must be 1 (grey) or 3 (colour)")
        require(self.validation >= 0, "validation must not be negative")
        for name in ("hflip", "reprob"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be 0 to 1")
        require(0 < self.scale_min <= 1, "scale_min must be above 0 and at most 1")
        require(0 <= self.color_jitter <= 1, "color_jitter must be 0 to 1")
        require(self.workers >= 0, "workers must not be negative")
        require(0 <= self.views <= MOST_VIEWS, f"views must be 0 to {MOST_VIEWS}")
        require(0 <= self.saturation <= 1, "saturation must be 0 to 1")
        require(self.balance in BALANCES, f"balance is {self.balance!r}, must be one of {', '.join(BALANCES)}")
        require(0 <= self.cache_gb <= MOST_GB, f"cache_gb must be 0 to {MOST_GB}")
        if self.source == "fashion_mnist":
            require((self.size, self.channels) == (28, 1), "Fashion-MNIST needs size 28, channels 1")
            require(0 <= self.shift < self.size, f"shift must be 0 to {self.size - 1}")
            require(self.hflip in (0, 0.5), "hflip must be 0 or 0.5 for Fashion-MNIST")
            require(self.validation >= 1, "validation must be at least 1")
            require(self.balance != "on", "balance = on needs source = folder")
        else:
            require(self.path != "", "path of the folder is missing")
        if self.in_memory:
            require(not self.auto_augment, "auto_augment needs memory = false")
            require(not self.reprob, "reprob needs memory = false")
        else:
            require(not self.views, "views needs memory = true")
            require(not self.saturation, "saturation needs memory = true")

    def balances(self, counts: Sequence[int]) -> bool:
        """Whether training draws classes with so many pictures equally often."""
        uneven = max(counts, default=0) > UNEVEN * min(counts, default=0)
        return self.source == "folder" and (self.balance == "on" or (self.balance == "auto" and uneven))

    @property
    def in_memory(self) -> bool:
        """Whether a folder's pictures are kept in memory."""
        return self.source == "folder" and (self.memory or self.path.lower().endswith(".zip"))
