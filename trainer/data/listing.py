# SPDX-License-Identifier: MIT
"""Folders of pictures, one per class.

    DIR/class/.../picture.jpg                  the training set; validation pictures are held out of it
    DIR/train/class/... and DIR/val/class/...  also DIR/test/class/...; ImageNet as it is usually laid out

The label of a class is its folder's name. If all names are WordNet synsets (n01440764), labels are readable words, in
the order of timm's classes.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.decode import SUFFIXES
from trainer.errors import TrainerError

SYNSET = re.compile(r"n\d{8}")
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Listing:
    """classes: folder names; files: paths below root, sorted, class by class; targets: the class of each.

    others: files whose suffix is not a picture's.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    targets: tuple[int, ...]
    others: tuple[str, ...] = ()


def visible(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED),
            key=lambda entry: entry.name,
        )


def walk(folder: Path) -> Iterator[Path]:
    """All visible files at any depth."""
    for entry in visible(folder):
        if entry.is_dir():
            yield from walk(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def subfolders(root: Path) -> list[str]:
    """Names of the visible folders in `root`."""
    if not root.is_dir():
        raise TrainerError(f"{root}: no such folder")
    return [entry.name for entry in visible(root) if entry.is_dir()]


def list_pictures(root: Path) -> Listing:
    """List a folder of class folders; opens no file."""
    classes = subfolders(root)
    if not classes:
        raise TrainerError(f"{root}: has no class folders, as {root}/cat/1.jpg and {root}/dog/1.jpg would make")
    if len(classes) == 1:
        raise TrainerError(f"{root}: has only one class, {classes[0]}; at least two are needed")
    files, targets, others = [], [], []
    for target, name in enumerate(classes):
        found = [str(path.relative_to(root)) for path in walk(root / name)]
        pictures = [file for file in found if file.lower().endswith(SUFFIXES)]
        if not pictures:
            raise TrainerError(f"{root / name}: no pictures ({' '.join(SUFFIXES)})")
        files += pictures
        targets += [target] * len(pictures)
        others += [file for file in found if not file.lower().endswith(SUFFIXES)]
    return Listing(root, tuple(classes), tuple(files), tuple(targets), tuple(others))


def readable_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Labels of class folders; a synset becomes its first word, followed by the synset if two share that word."""
    if not all(SYNSET.fullmatch(name) for name in classes):
        return tuple(classes)
    # Imported here: only ImageNet needs timm's lists.
    from timm.data import ImageNetInfo

    info = ImageNetInfo()

    def word(synset: str) -> str:
        try:
            return info.label_name_to_description(synset).split(",")[0]
        except KeyError:
            return synset

    # Sorted synsets are in the order of timm's classes.
    words = [word(name) for name in classes]
    count = Counter(words)
    return tuple(f"{word} ({name})" if count[word] > 1 else word for word, name in zip(words, classes, strict=True))


@dataclass(frozen=True)
class Layout:
    """Folders of training, validation and test pictures; None without such a folder."""

    train: Path
    val: Path | None = None
    test: Path | None = None


def layout(root: Path) -> Layout:
    """The layout of a folder. A test/ without class folders, as in ImageNet, does not count."""
    names = subfolders(root)
    parts = {name: root / name for name in ("val", "test") if name in names}
    if "train" not in names or not parts:
        return Layout(root)
    if "test" in parts and not subfolders(parts["test"]):
        del parts["test"]
    return Layout(root / "train", **parts)


def check_same_classes(first: Path, second: Path) -> None:
    """Raise TrainerError if two folders have different class folders."""
    names, others = set(subfolders(first)), set(subfolders(second))
    parts = []
    for root, only in ((first, sorted(names - others)), (second, sorted(others - names))):
        if only:
            parts.append(f"only in {root.name}: {', '.join(only[:5])}{', ..' if len(only) > 5 else ''}")
    if parts:
        raise TrainerError(f"{second}: other classes than in {first} ({'; '.join(parts)})")
