# SPDX-License-Identifier: MIT
"""Pictures in folders, read on demand."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from trainer.data.augment import Augmentation
from trainer.data.base import Batch, Pictures, epoch_generator, stratified
from trainer.data.check import find_problems, tell_skipped
from trainer.data.decode import read_picture, square, suffix_advice
from trainer.data.listing import labels_of, list_pictures
from trainer.data.settings import DataSettings
from trainer.data.shrunk import Forms, Store, Writer, crop_side, reduced
from trainer.data.workers import start_worker
from trainer.errors import TrainerError, require

SQUARES_BYTES = 512 << 20  # bytes of decoded squares kept in memory
NO_SUFFIX = "no picture's suffix"
KEPT = "photos.sqlite"  # in the cache's folder, see trainer.data.shrunk


class Make(Protocol):
    """Makes uint8 [size, size, channels] of the picture at a place."""

    @property
    def form(self) -> str:
        """What it can be made of instead, see trainer.data.shrunk.Forms."""

    def __call__(self, image: Image.Image, place: int) -> np.ndarray:
        """Of a picture as it was decoded."""

    def restored(self, pixels: np.ndarray, place: int) -> np.ndarray:
        """The same of its form."""


@dataclass(frozen=True)
class Task:
    """The work of a process that reads pictures.

    digests: of the files' contents; empty if they were not checked; indices: of the file at each place; store: of forms
    of large photos, None without.
    """

    root: Path
    files: Sequence[str]
    digests: Sequence[str]
    make: Make
    indices: Sequence[int]
    store: Store | None = None

    def __getitem__(self, place: int) -> np.ndarray | TrainerError:
        index = self.indices[place]
        try:
            digest = self.digests[index] if self.digests else ""
            pixels = self.store.get(digest, self.make.form) if self.store and digest else None
            if pixels is not None:
                return self.make.restored(pixels, place)
            return self.make(read_picture(self.root / self.files[index], digest), place)
        except TrainerError as error:
            return error  # raised in load(), so that its text holds no worker's traceback


def stacked(items: list[np.ndarray | TrainerError]) -> np.ndarray | TrainerError:
    """A batch, or the first error.

    numpy, not torch: tensors travel through /dev/shm, which is small in containers.
    """
    errors = (item for item in items if isinstance(item, TrainerError))
    return next(errors, None) or np.stack(items)


@dataclass(frozen=True)
class SquareTask:
    """Makes a picture's square."""

    settings: DataSettings

    @property
    def form(self) -> str:
        """See Make."""
        return Forms(self.settings, False).square

    def __call__(self, image: Image.Image, place: int) -> np.ndarray:
        return square(image, self.settings.size, self.settings.channels)

    def restored(self, pixels: np.ndarray, place: int) -> np.ndarray:
        """See Make."""
        return pixels


@dataclass(frozen=True)
class AugmentTask:
    """Makes the training picture at a place of one epoch, always of a shrunk photo: whether one is kept changes
    nothing."""

    settings: DataSettings
    augmentation: Augmentation
    seed: int
    epoch: int

    @property
    def form(self) -> str:
        """See Make."""
        return Forms(self.settings, True).crops

    def __call__(self, image: Image.Image, place: int) -> np.ndarray:
        return self.augmentation(reduced(image, crop_side(self.settings)), self.seed, self.epoch, place)

    def restored(self, pixels: np.ndarray, place: int) -> np.ndarray:
        """See Make."""
        return self.augmentation(Image.fromarray(pixels), self.seed, self.epoch, place)


@dataclass
class Squares:
    """Decoded squares: images uint8 [count, size, size, channels], of which the first `count` are filled."""

    images: Tensor | None = None
    count: int = 0


@dataclass(frozen=True, eq=False)
class FolderPictures(Pictures):
    """files: paths relative to root; digests: of their contents, empty until they are checked; others, beside: see
    Listing, empty once they are checked; store: what is kept of large photos. Augmentation follows the settings and is
    unlimited."""

    root: Path
    files: tuple[str, ...]
    targets: Tensor
    labels: tuple[str, ...]
    settings: DataSettings
    others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    store: Store | None = field(default=None, repr=False)
    squares: Squares = field(default_factory=Squares, repr=False)
    variants = None

    @classmethod
    def open(cls, root: Path, settings: DataSettings) -> "FolderPictures":
        """List the class folders in `root`; opens no file, see `check`."""
        Augmentation(settings)
        listing = list_pictures(root)
        targets = torch.tensor(listing.targets, dtype=torch.int64)
        labels = labels_of(Path(settings.path).expanduser(), listing.classes)
        return cls(root, listing.files, targets, labels, settings, listing.others, listing.beside)

    @property
    def name(self) -> str:  # type: ignore[override] # read-only
        """The folder."""
        return str(self.root)

    @property
    def size(self) -> int:  # type: ignore[override] # read-only
        """Side of a picture."""
        return self.settings.size

    @property
    def channels(self) -> int:  # type: ignore[override] # read-only
        """1 (grey) or 3."""
        return self.settings.channels

    @property
    def balanced(self) -> bool:
        """See Pictures."""
        return self.settings.balances(torch.bincount(self.targets, minlength=len(self.labels)).tolist())

    def check(self, cache: Path | None = None, with_crops: bool = True) -> "FolderPictures":
        """The set without unreadable files, of which lines on stderr and a file tell.

        Every file is read once; cache: folder that keeps the results, and what is needed of large photos, for training
        only `with_crops`. A file that is replaced by another picture later is refused when read. TrainerError names a
        class without readable pictures.
        """
        limit, store, writer = round(self.settings.cache_gb * 1e9), None, None
        if cache is not None and limit and not self.settings.in_memory:
            store = Store(cache / KEPT, limit)
            writer = Writer(store, Forms(self.settings, with_crops))
        verdicts = find_problems(self.root, self.files, cache, self.settings.workers, writer)
        good = [index for index, verdict in enumerate(verdicts) if not verdict.problem]
        pairs = zip(self.files, verdicts, strict=True)
        skipped = {file: verdict.problem for file, verdict in pairs if verdict.problem}
        skipped |= {file: suffix_advice(file) or NO_SUFFIX for file in self.others}
        tell_skipped(self.root, skipped, self.beside, cache)
        for line in writer.report(str(self.root)) if writer is not None else ():
            print(f"note: {line}", file=sys.stderr)
        digests = tuple(verdict.digest for verdict in verdicts)
        checked = replace(self, digests=digests, others=(), beside=(), store=store).picked(good)
        counts = torch.bincount(checked.targets, minlength=len(self.labels))
        if not counts.all():
            first = int((self.targets == int(counts.argmin())).nonzero()[0])
            raise TrainerError(f"{self.root / Path(self.files[first]).parts[0]}: no readable pictures")
        return checked

    def load(self, make: Make, batches: list[list[int]], indices: Sequence[int]) -> Iterator[Tensor]:
        """uint8 [batch, size, size, channels] of each list of places; TrainerError names an unreadable file.

        indices: of the file at each place.
        """
        loader = DataLoader(
            Task(self.root, self.files, self.digests, make, indices, self.store),
            batch_sampler=batches,
            num_workers=min(self.settings.workers, len(batches)),
            collate_fn=stacked,
            worker_init_fn=partial(start_worker, os.getpid()),
            generator=torch.Generator(),  # otherwise it would draw from torch's global generator
        )
        for images in loader:
            if isinstance(images, TrainerError):
                raise images
            yield torch.from_numpy(images)

    def batches(
        self, batch: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """See Pictures."""
        generator = epoch_generator(seed, epoch)
        order, places = torch.randperm(len(self), generator=generator), self.places(generator)
        steps = list(self.chosen(order, batch, start, rank, world))
        # By place: a picture that comes twice is augmented in two ways.
        make = AugmentTask(self.settings, Augmentation(self.settings), seed, epoch)
        loaded = self.load(make, [step.tolist() for step in steps], places.tolist())
        for chosen, images in zip(steps, loaded, strict=True):
            yield Batch(images, self.targets[places[chosen]])

    def ordered(self, batch: int) -> Iterator[Batch]:
        """See Pictures. Squares are kept in memory if all of them take at most 512 MB."""
        steps = list(pairwise([*range(0, len(self), batch), len(self)]))
        kept = sum(stop <= self.squares.count for _, stop in steps)
        for start, stop in steps[:kept]:
            assert self.squares.images is not None, "counted squares are kept"
            yield Batch(self.squares.images[start:stop], self.targets[start:stop])
        missing = [list(range(start, stop)) for start, stop in steps[kept:]]
        loaded = self.load(SquareTask(self.settings), missing, range(len(self)))
        for (start, stop), images in zip(steps[kept:], loaded, strict=True):
            self.keep(start, images)
            yield Batch(images, self.targets[start:stop])

    def keep(self, start: int, images: Tensor) -> None:
        """Keep squares that follow those kept already, if all of them fit."""
        squares, shape = self.squares, (len(self), *images.shape[1:])
        if images[0].numel() * len(self) > SQUARES_BYTES or start > squares.count:
            return
        if squares.images is None:
            squares.images = torch.empty(shape, dtype=torch.uint8)
        squares.images[start : start + len(images)] = images
        squares.count = max(squares.count, start + len(images))

    def picked(self, indices: Sequence[int]) -> "FolderPictures":
        """See Pictures."""
        files = tuple(self.files[index] for index in indices)
        digests = tuple(self.digests[index] for index in indices) if self.digests else ()
        targets = self.targets[torch.tensor(indices, dtype=torch.int64)]
        return replace(self, files=files, digests=digests, targets=targets, squares=Squares())

    def inventory(self) -> dict[str, str]:
        """See Pictures: by path below the settings' folder."""
        require(len(self.digests) == len(self.files), f"{self.root}: files were not checked")
        above = self.root.relative_to(Path(self.settings.path).expanduser())
        entries = zip(self.files, self.targets.tolist(), self.digests, strict=True)
        return {str(above / file): f"{self.labels[target]} {digest}" for file, target, digest in entries}

    def split(self, validation: int) -> tuple["FolderPictures", "FolderPictures"]:
        """(training, validation): the same fraction of every class is held out, at random with a fixed seed."""
        self.check_validation(validation, len(self) - len(self.labels))
        held_out = stratified(self.targets, len(self.labels), validation)
        training, validation_set = (self.picked(mask.nonzero()[:, 0].tolist()) for mask in (~held_out, held_out))
        return training, validation_set
