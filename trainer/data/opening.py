# SPDX-License-Identifier: MIT
"""Open the sets of pictures that the settings name."""

from pathlib import Path

from trainer.data.base import Pictures
from trainer.data.fashion_mnist import load_fashion_mnist
from trainer.data.listing import check_same_classes, layout
from trainer.data.memory import MemoryPictures
from trainer.data.settings import DataSettings
from trainer.errors import TrainerError


def open_fashion_mnist(settings: DataSettings, split: str) -> MemoryPictures:
    """ "train" or "t10k"."""
    directory = Path(settings.path).expanduser() if settings.path else None
    return load_fashion_mnist(split, directory, settings.shift, settings.hflip > 0)


def open_folder(settings: DataSettings, root: Path, cache: Path | None) -> Pictures:
    """The readable pictures of a folder."""
    # Imported here: Fashion-MNIST does not need timm's augmentation.
    from trainer.data.folder import FolderPictures

    return FolderPictures.open(root, settings).check(cache)


def open_data(settings: DataSettings, cache: Path | None = None) -> tuple[Pictures, Pictures]:
    """(training, validation). cache: folder that keeps which files are readable."""
    if settings.source == "fashion_mnist":
        return open_fashion_mnist(settings, "train").split(settings.validation)
    folders = layout(Path(settings.path).expanduser())
    if folders.val:
        check_same_classes(folders.train, folders.val)
    if settings.validation:
        return open_folder(settings, folders.train, cache).split(settings.validation)
    if not folders.val:
        raise TrainerError(f"{settings.path}: has no val/, so validation must be at least 1")
    return open_folder(settings, folders.train, cache), open_folder(settings, folders.val, cache)


def open_test(settings: DataSettings, cache: Path | None = None) -> Pictures:
    """The test pictures: t10k; test/ or, where there is none, val/; without either the validation pictures."""
    if settings.source == "fashion_mnist":
        return open_fashion_mnist(settings, "t10k")
    folders = layout(Path(settings.path).expanduser())
    root = folders.test or folders.val
    if root is None:
        return open_data(settings, cache)[1]
    check_same_classes(folders.train, root)
    return open_folder(settings, root, cache)
