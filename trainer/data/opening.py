# SPDX-License-Identifier: MIT
"""Open the sets of pictures that the settings name."""

import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.data.advice import advice
from trainer.data.archive import data_root
from trainer.data.base import Pictures
from trainer.data.check import named_first
from trainer.data.fashion_mnist import FASHION_MNIST_LABELS, load_fashion_mnist
from trainer.data.listing import Folder, Layout, check_same_classes, labels_of, layout, subfolders
from trainer.data.memory import MemoryPictures
from trainer.data.settings import DataSettings
from trainer.errors import TrainerError


def open_fashion_mnist(settings: DataSettings, split: str) -> MemoryPictures:
    """ "train" or "t10k"."""
    directory = Path(settings.path).expanduser() if settings.path else None
    return load_fashion_mnist(split, directory, settings.shift, settings.hflip > 0)


def open_folder(settings: DataSettings, root: Folder, cache: Path | None, with_crops: bool = False) -> Pictures:
    """The readable pictures of a folder; with_crops: training crops will be made of them."""
    # Imported here: Fashion-MNIST does not need timm's augmentation.
    if settings.in_memory or not isinstance(root, Path):
        from trainer.data.loaded import LoadedPictures

        return LoadedPictures.open(root, settings, cache)
    from trainer.data.folder import FolderPictures

    return FolderPictures.open(root, settings).check(cache, with_crops)


def labels_of_data(settings: DataSettings) -> tuple[str, ...]:
    """The labels of the classes, without a look at any picture."""
    if settings.source == "fashion_mnist":
        return FASHION_MNIST_LABELS
    root = data_root(settings.path)
    return labels_of(root, subfolders(layout(root).train))


def tell_unused(settings: DataSettings, folders: Layout) -> None:
    """Say what stands beside the parts of a folder, and is not looked into."""
    if folders.unused:
        print(
            f"{settings.path}: {len(folders.unused)} beside {folders.train.name}/ not used: "
            f"{named_first(folders.unused)}",
            file=sys.stderr,
        )


def open_data(settings: DataSettings, cache: Path | None = None) -> tuple[Pictures, Pictures]:
    """(training, validation). cache: folder that keeps which files are readable, and squares."""
    if settings.source == "fashion_mnist":
        return open_fashion_mnist(settings, "train").split(settings.validation)
    folders = layout(data_root(settings.path))
    if folders.val:
        check_same_classes(folders.train, folders.val)
    tell_unused(settings, folders)
    if settings.validation:
        return open_folder(settings, folders.train, cache, with_crops=True).split(settings.validation)
    if not folders.val:
        raise TrainerError(f"{settings.path}: has no val/, so validation must be at least 1")
    training = open_folder(settings, folders.train, cache, with_crops=True)
    return training, open_folder(settings, folders.val, cache)


@dataclass(frozen=True)
class Parts:
    """The parts that a folder has. validation: None if no folder is kept for it; test: pictures that no choice is made
    by, None without such a part."""

    training: Pictures
    validation: Pictures | None
    test: Pictures | None

    def advise(self) -> None:
        """Print what people should know about their pictures before a training starts."""
        parts = {"train": self.training, "validation": self.validation, "test": self.test}
        for line in advice({name: part for name, part in parts.items() if part is not None}):
            print(f"note: {line}", file=sys.stderr)


def open_parts(settings: DataSettings, cache: Path | None = None) -> Parts:
    """The parts of a folder as they are, nothing held out of training."""
    if settings.source == "fashion_mnist":
        raise TrainerError("source is fashion_mnist, must be a folder of your own pictures here")
    folders = layout(data_root(settings.path))
    for other in (folders.val, folders.test):
        if other:
            check_same_classes(folders.train, other)
    tell_unused(settings, folders)
    roots = (folders.train, folders.val, folders.test)
    training, validation, test = (open_folder(settings, root, cache) if root else None for root in roots)
    assert training is not None
    return Parts(training, validation, test)


def has_test(settings: DataSettings) -> bool:
    """Whether open_test gives pictures that no choice is made by: otherwise they are validation pictures."""
    if settings.source == "fashion_mnist":
        return True
    folders = layout(data_root(settings.path))
    return folders.test is not None or (folders.val is not None and settings.validation > 0)


def open_test(settings: DataSettings, cache: Path | None = None) -> Pictures:
    """The test pictures: t10k; test/ or, where there is none, val/; without either the validation pictures."""
    if settings.source == "fashion_mnist":
        return open_fashion_mnist(settings, "t10k")
    folders = layout(data_root(settings.path))
    root = folders.test or folders.val
    if root is None:
        return open_data(settings, cache)[1]
    check_same_classes(folders.train, root)
    return open_folder(settings, root, cache)
