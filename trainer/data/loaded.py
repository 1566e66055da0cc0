# SPDX-License-Identifier: MIT
"""Folders and zip files of small pictures: read once, kept at the network's size, augmented batch by batch."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from trainer.data.archive import ZipFolder
from trainer.data.base import Batch, Pictures, epoch_generator, stratified
from trainer.data.check import tell_skipped
from trainer.data.decode import UnreadableError, decode, read_picture, square, suffix_advice
from trainer.data.folder import NO_SUFFIX, FolderPictures
from trainer.data.jitter import Jitter, jittered
from trainer.data.listing import Folder, labels_of, list_pictures
from trainer.data.settings import DataSettings
from trainer.errors import TrainerError

CHUNK = 512  # pictures that threads are given at once
VIEW_SEED = 77_000


@dataclass(frozen=True)
class Files:
    """Files of pictures: names below root, the class of each, a digest of each one's content, and how to decode one."""

    root: Folder
    names: Sequence[str]
    targets: Sequence[int]
    labels: tuple[str, ...]
    digests: Sequence[str]

    @classmethod
    def of_folder(cls, root: Path, settings: DataSettings, cache: Path | None) -> "Files":
        """The readable files of a folder."""
        found = FolderPictures.open(root, settings).check(cache)
        return cls(root, found.files, found.targets.tolist(), found.labels, found.digests)

    @classmethod
    def of_zip(cls, root: ZipFolder, cache: Path | None) -> "Files":
        """The files of a folder in a zip file."""
        listing = list_pictures(root)
        skipped = {file: suffix_advice(file) or NO_SUFFIX for file in listing.others}
        tell_skipped(root, skipped, listing.beside, cache)
        labels = labels_of(ZipFolder(root.archive), listing.classes)
        digests = [root.archive.digest((root / name).inside) for name in listing.files]
        return cls(root, listing.files, listing.targets, labels, digests)

    def square(self, index: int, settings: DataSettings) -> np.ndarray:
        """uint8 [size, size, channels] of a picture; TrainerError for an unreadable one."""
        path = self.root / self.names[index]
        if isinstance(path, Path):
            image = read_picture(path, self.digests[index])
        else:
            try:
                image = decode(path.read_bytes())
            except UnreadableError as error:
                raise TrainerError(f"{path}: not a readable picture ({error})") from None
        return square(image, settings.size, settings.channels)

    def fill(self, out: np.ndarray, settings: DataSettings) -> None:
        """Decode all pictures into `out`, uint8 [count, size, size, channels]."""
        bar = tqdm(total=len(out), desc=f"reading {self.root.name}", unit=" pictures", leave=False, disable=None)
        with bar, ThreadPoolExecutor(max(settings.workers, 1)) as pool:
            for start in range(0, len(out), CHUNK):
                rows = range(start, min(start + CHUNK, len(out)))
                for row, pixels in zip(rows, pool.map(lambda i: self.square(i, settings), rows), strict=True):
                    out[row] = pixels
                bar.update(len(rows))

    def squares(self, settings: DataSettings, cache: Path | None) -> np.ndarray:
        """uint8 [count, size, size, channels] of all pictures, from the cache or put there."""
        shape = (len(self.names), settings.size, settings.size, settings.channels)
        if cache is None:
            out = np.empty(shape, np.uint8)
            self.fill(out, settings)
            return out
        key = hashlib.sha256(json.dumps([list(self.digests), shape]).encode()).hexdigest()[:16]
        path = cache / f"squares-{key}.npy"
        if not path.exists():
            write_array(path, shape, lambda out: self.fill(out, settings))
        # Copy on write: torch wants memory that can be written, the file stays as it is.
        return np.load(path, mmap_mode="c")


def write_array(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    """Write a uint8 array that `fill` fills, whole or not at all; TrainerError where there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}-{os.getpid()}.npy")
    try:
        out = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a SIGBUS where mapped pages are written
            with open(unfinished, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, unfinished.stat().st_size)
        fill(out)
        out.flush()
        os.replace(unfinished, path)
    except OSError as error:
        raise TrainerError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        unfinished.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class LoadedPictures(Pictures):
    """images: uint8 [all, size, size, channels] of a whole part; index: int64 [count], which of them are in the set.

    names, digests: of the files, by index in images; above: the part's folder below that of the settings.
    """

    images: Tensor
    index: Tensor
    all_targets: Tensor
    labels: tuple[str, ...]
    names: Sequence[str]
    digests: Sequence[str]
    settings: DataSettings
    name: str
    above: str = ""
    jitters: dict[int, Jitter] = field(default_factory=dict, repr=False)  # by number of the view

    @classmethod
    def open(cls, root: Folder, settings: DataSettings, cache: Path | None = None) -> "LoadedPictures":
        """Read a folder of class folders, or one in a zip file. cache: folder that keeps the squares."""
        if isinstance(root, ZipFolder):
            files, above = Files.of_zip(root, cache), root.inside
        else:
            files = Files.of_folder(root, settings, cache)
            above = str(root.relative_to(Path(settings.path).expanduser()))
        images = torch.from_numpy(files.squares(settings, cache))
        targets = torch.tensor(files.targets, dtype=torch.int64)
        index = torch.arange(len(images))
        return cls(images, index, targets, files.labels, files.names, files.digests, settings, str(root), above)

    @property
    def targets(self) -> Tensor:
        """See Pictures."""
        return self.all_targets[self.index]

    @property
    def size(self) -> int:  # type: ignore[override]
        """Side of a picture."""
        return self.settings.size

    @property
    def channels(self) -> int:  # type: ignore[override]
        """1 (grey) or 3."""
        return self.settings.channels

    @property
    def balanced(self) -> bool:
        """See Pictures."""
        return self.settings.balances(torch.bincount(self.targets, minlength=len(self.labels)).tolist())

    @property
    def variants(self) -> int | None:  # type: ignore[override]
        """The settings' views."""
        return self.settings.views or None

    def batches(
        self, batch: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """See Pictures."""
        generator, count = epoch_generator(seed, epoch), len(self.index)
        order, places = torch.randperm(count, generator=generator), self.places(generator)
        targets = self.targets[places]
        if self.variants is None:
            jitter = Jitter.draw(self.settings, count, generator)
            for chosen in self.chosen(order, batch, start, rank, world):
                images = self.images[self.index[places[chosen]]]
                yield Batch(jittered(images, jitter.of(chosen)), targets[chosen])
            return
        keys = places * self.variants + torch.randint(self.variants, (count,), generator=generator)
        for chosen in self.chosen(order, batch, start, rank, world):
            yield Batch(self.augmented(keys[chosen]), targets[chosen], keys[chosen])

    def augmented(self, keys: Tensor) -> Tensor:
        """See Pictures."""
        if self.variants is None:
            return super().augmented(keys)
        chosen, views = keys // self.variants, keys % self.variants
        drawn = [self.view(view).of(chosen[views == view]) for view in views.unique().tolist()]
        where = torch.cat([(views == view).nonzero()[:, 0] for view in views.unique().tolist()])
        values = torch.cat([part.values for part in drawn])[where.argsort()]
        return jittered(self.images[self.index[chosen]], Jitter(values))

    def view(self, number: int) -> Jitter:
        """How the view with this number changes each picture: the same in every run."""
        if number not in self.jitters:
            generator = torch.Generator().manual_seed(VIEW_SEED + number)
            self.jitters[number] = Jitter.draw(self.settings, len(self.index), generator)
        return self.jitters[number]

    def ordered(self, batch: int) -> Iterator[Batch]:
        """See Pictures."""
        for index in self.index.split(batch):
            yield Batch(self.images[index], self.all_targets[index])

    def picked(self, indices: Sequence[int]) -> "LoadedPictures":
        """See Pictures; shares memory."""
        return replace(self, index=self.index[torch.tensor(indices, dtype=torch.int64)], jitters={})

    def split(self, validation: int) -> tuple["LoadedPictures", "LoadedPictures"]:
        """(training, validation): the same fraction of every class is held out, as of FolderPictures."""
        self.check_validation(validation, len(self) - len(self.labels))
        held_out = stratified(self.targets, len(self.labels), validation)
        training, validation_set = (self.picked(mask.nonzero()[:, 0].tolist()) for mask in (~held_out, held_out))
        return training, validation_set

    def inventory(self) -> dict[str, str]:
        """See Pictures: by path below the settings' folder."""
        prefix = "" if self.above in ("", ".") else f"{self.above}/"
        return {
            prefix + self.names[index]: f"{self.labels[self.all_targets[index]]} {self.digests[index]}"
            for index in self.index.tolist()
        }
