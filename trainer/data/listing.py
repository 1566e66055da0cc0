# SPDX-License-Identifier: MIT
"""Folders of pictures, one per class, on a disk or in a zip file.

    DIR/class/.../picture.jpg                  the training set; validation pictures are held out of it
    DIR/train/class/... and DIR/val/class/...  also DIR/test/class/...; ImageNet as it is usually laid out

Parts may be named as in PARTS, in any letter case. Classes are sorted by name, numbers in names as numbers. The label
of a class is its folder's name. A file DIR/names.txt (folder's name, tab, names separated by commas) gives labels
that people use; without it, WordNet synsets (n01440764) get timm's, if all names are synsets.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.archive import ZipEntry, ZipFolder
from trainer.data.decode import SUFFIXES, suffix_advice
from trainer.errors import TrainerError

Folder = Path | ZipFolder
PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
NAMES = "names.txt"
SYNSET = re.compile(r"n\d{8}")
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Listing:
    """classes: folder names; files: paths below root, sorted, class by class; targets: the class of each.

    others: files whose suffix is not a picture's; beside: pictures in root itself.
    """

    root: Folder
    classes: tuple[str, ...]
    files: tuple[str, ...]
    targets: tuple[int, ...]
    others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def visible(folder: Folder) -> list[os.DirEntry | ZipEntry]:
    """The entries of a folder, sorted, without hidden ones."""
    with os.scandir(folder) if isinstance(folder, Path) else folder.scan() as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED),
            key=lambda entry: entry.name,
        )


def walk(folder: Folder, above: str = "") -> Iterator[str]:
    """Paths of all visible files at any depth, below the folder that `above` is relative to."""
    for entry in visible(folder):
        if entry.is_dir():
            yield from walk(folder / entry.name, f"{above}{entry.name}/")
        elif entry.is_file():
            yield above + entry.name


def in_number_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names as people do: numbers in them by value, so 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def subfolders(root: Folder) -> list[str]:
    """Names of the visible folders in `root`, numbers in them by value."""
    if not root.is_dir():
        raise TrainerError(f"{root}: no such folder")
    return sorted((entry.name for entry in visible(root) if entry.is_dir()), key=in_number_order)


def list_pictures(root: Folder) -> Listing:
    """List a folder of class folders; opens no file."""
    classes = subfolders(root)
    if not classes:
        raise TrainerError(f"{root}: has no class folders, as {root}/cat/1.jpg and {root}/dog/1.jpg would make")
    if len(classes) == 1:
        raise TrainerError(f"{root}: has only one class, {classes[0]}; at least two are needed")
    files, targets, others = [], [], []
    for target, name in enumerate(classes):
        found = list(walk(root / name, f"{name}/"))
        pictures = [file for file in found if file.lower().endswith(SUFFIXES)]
        if not pictures:
            advice = next(filter(None, map(suffix_advice, found)), " ".join(SUFFIXES))
            raise TrainerError(f"{root / name}: no pictures ({advice})")
        files += pictures
        targets += [target] * len(pictures)
        others += [file for file in found if not file.lower().endswith(SUFFIXES)]
    return Listing(root, tuple(classes), tuple(files), tuple(targets), tuple(others), loose_pictures(root))


def loose_pictures(root: Folder) -> tuple[str, ...]:
    """Pictures in a folder itself, where only folders are looked into."""
    names = (entry.name for entry in visible(root) if entry.is_file())
    return tuple(name for name in names if name.lower().endswith(SUFFIXES) or suffix_advice(name))


def given_names(text: str, where: str) -> dict[str, list[str]]:
    """The names that each line of a names.txt gives a class folder."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        folder, tab, names = line.partition("\t")
        words = [word.strip() for word in names.split(",") if word.strip()]
        if line.strip() and not (tab and words):
            raise TrainerError(f"{where}: line {number} is not a folder's name, a tab and names separated by commas")
        found[folder.strip()] = words
    return found


def labels_of(root: Folder, classes: Sequence[str]) -> tuple[str, ...]:
    """Labels of class folders, from the names.txt of the folder of all pictures or from the folders' names."""
    path = root / NAMES
    if not path.is_file():
        return readable_names(classes)
    try:
        names = given_names(path.read_bytes().decode(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainerError(f"{path}: cannot be read ({error})") from None
    words = [names.get(name, [name]) for name in classes]
    count = Counter(word for word, *_ in words)
    # Of two with the same first name, each gets its second, too.
    return tuple(
        f"{word} ({more[0] if more else name})" if count[word] > 1 else word
        for (word, *more), name in zip(words, classes, strict=True)
    )


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
    """Folders of training, validation and test pictures; None without such a folder.

    unused: names of folders and pictures beside those of the parts.
    """

    train: Folder
    val: Folder | None = None
    test: Folder | None = None
    unused: tuple[str, ...] = ()


def layout(root: Folder) -> Layout:
    """The layout of a folder. A test/ without class folders, as in ImageNet, does not count."""
    names, parts = subfolders(root), {}
    for part, known in PARTS.items():
        found = [name for name in names if name.lower() in known]
        if len(found) > 1:
            raise TrainerError(f"{root}: {' and '.join(found)} are two names for the {part} part; keep one of them")
        if found:
            parts[part] = root / found[0]
    if "test" in parts and not subfolders(parts["test"]):
        del parts["test"]
    if "train" in parts and (len(parts) > 1 or len(names) == 1):
        used = {folder.name for folder in parts.values()}
        unused = tuple(name for name in names if name not in used) + loose_pictures(root)
        return Layout(**parts, unused=unused)
    if len(parts) == len(names) > 1:
        raise TrainerError(f"{root}: has {' and '.join(names)}, but no train/ of pictures to learn from")
    return Layout(root)


def check_same_classes(first: Folder, second: Folder) -> None:
    """Raise TrainerError if two folders have different class folders."""
    names, others = set(subfolders(first)), set(subfolders(second))
    parts = []
    for root, only in ((first, sorted(names - others)), (second, sorted(others - names))):
        if only:
            parts.append(f"only in {root.name}: {', '.join(only[:5])}{', ..' if len(only) > 5 else ''}")
    if parts:
        raise TrainerError(f"{second}: other classes than in {first} ({'; '.join(parts)})")
