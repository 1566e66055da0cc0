# SPDX-License-Identifier: MIT
"""Builds ROMFS images with files aligned to 16 bytes, so that a board reads a model in place in flash.

    python -m host_sim.setup.romfs MODEL [FILES] [--board BOARD] [--size BYTES] [--output FILE]

`mpremote romfs deploy FILE.romfs` accepts the image. Under /rom it has models/ with the model and its labels, the
package ftervit as bytecode (mpy.py), the example scripts as source, to be read and changed, images/ with ten
pictures, and FILES. Scripts and package find models and pictures there.
The format is that of MicroPython's extmod/vfs_rom.c: records of kind, length and payload; numbers have 7 bits per
byte, most significant first. mpremote's own builder does not align files.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from host_sim.setup import mpy
from host_sim.setup.artefact import write_whole
from host_sim.setup.package import use_firmware
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors
from host_sim.setup.sizes import parse_size

ALIGNMENT = 16
MAGIC = b"\xd2\xcd\x31"  # the kind of the record that is the file system
PADDING, VERBATIM, POINTER, DIRECTORY, FILE = 1, 2, 3, 4, 5
# Lengths of records that contain others always take 4 bytes (leading 0x80 bytes add nothing), so offsets do not move
# when the length becomes known.
LENGTH_BYTES = 4
LARGEST = (1 << 7 * LENGTH_BYTES) - 1
# Longest number that a reader accepts, in bytes (64 bits), and the limit of nested folders.
LONGEST_NUMBER = 10
DEEPEST = 32

BOARDS = ROOT / "firmware" / "boards"


def number(value: int, width: int = 1) -> bytes:
    """A number in ROMFS encoding, in at least `width` bytes."""
    digits = [value & 0x7F]
    while (value := value >> 7) or len(digits) < width:
        digits.append(0x80 | value & 0x7F)
    return bytes(reversed(digits))


class Writer:
    """Writes an image record by record."""

    def __init__(self) -> None:
        self.image = bytearray()

    def begin(self, kind: bytes) -> int:
        """Start a record that contains others; returns the position of its payload."""
        self.image += kind + bytes(LENGTH_BYTES)
        return len(self.image)

    def end(self, start: int) -> None:
        """Write the length of the record whose payload begins at `start`."""
        size = len(self.image) - start
        if size > LARGEST:
            raise Failure(f"the files need {size} bytes, an image holds at most {LARGEST}")
        self.image[start - LENGTH_BYTES : start] = number(size, LENGTH_BYTES)

    def pad(self, following: int) -> None:
        """Write a padding record if needed, so that the position after the next `following` bytes is aligned."""
        gap = -(len(self.image) + following) % ALIGNMENT
        if gap == 1:  # the smallest record has two bytes
            gap += ALIGNMENT
        if gap:
            self.image += bytes([PADDING, gap - 2]) + bytes(gap - 2)

    def name(self, name: str) -> None:
        """Write the name at the start of a file's or folder's payload."""
        self.image += number(len(name.encode())) + name.encode()

    def file(self, name: str, data: bytes) -> None:
        """Write a file with its data aligned."""
        start = self.begin(number(FILE))
        self.name(name)
        header = number(VERBATIM) + number(len(data))
        self.pad(len(header))
        self.image += header + data
        self.end(start)

    def folder(self, tree: dict) -> None:
        """Write the files and folders of a tree."""
        for name, value in tree.items():
            if isinstance(value, dict):
                start = self.begin(number(DIRECTORY))
                self.name(name)
                self.folder(value)
                self.end(start)
            else:
                self.file(name, value)


def content(name: str, value: bytes | str | Path) -> bytes:
    """The content of a file given as bytes or by its path."""
    if not isinstance(value, (str, Path)):
        return bytes(value)
    try:
        size = Path(value).stat().st_size
        if size > LARGEST:
            raise Failure(f"{name}: {value} has {size:,} bytes, an image holds at most {LARGEST:,}")
        return Path(value).read_bytes()
    except OSError as error:
        raise Failure(f"{name}: {value} cannot be read: {error.strerror}") from None


def check_name(name: str, what: str) -> list[str]:
    """The parts of a file's name in an image; a Failure, beginning with `what`, for an invalid name."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise Failure(f"{what}{shown(name)} is not a name for a file of an image: it must be like 'folder/file'")
    if len(parts) > DEEPEST:
        raise Failure(f"{what}{shown(name)} lies in {len(parts) - 1} folders, an image takes fewer than {DEEPEST}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Failure(f"{what}{shown(name)} is not a name for a file of an image: it is not UTF-8") from None
    return parts


def shown(name: str) -> str:
    """A name for a message: quoted, and at most one line long."""
    return repr(name) if len(name) <= 80 else f"{name[:40]!r}...{name[-20:]!r}"


def tree_of(files: Mapping[str, bytes | str | Path]) -> dict:
    """Nested dicts from names with slashes."""
    tree: dict = {}
    for name, value in files.items():
        *folders, last = check_name(name, "")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise Failure(f"{name}: {folder} is already a file")
        if last in place:
            raise Failure(f"{name}: is already a folder")
        place[last] = content(name, value)
    return tree


def build_image(files: Mapping[str, bytes | str | Path]) -> bytes:
    """A ROMFS image of `files`: name, with slashes for folders -> content, as bytes or by path.

    Every file's data begins at a multiple of 16 from the image's start, and the image's size is a multiple of 16. Files
    keep their order within each folder. Raises Failure for a bad name or an unreadable file.
    """
    writer = Writer()
    start = writer.begin(MAGIC)
    writer.folder(tree_of(files))
    writer.pad(0)
    writer.end(start)
    return bytes(writer.image)


class Reader:
    """Reads an image; checks every number before use."""

    def __init__(self, image: bytes) -> None:
        self.image = image

    def number(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at`, and the position after it."""
        value = 0
        for place in range(at, min(end, at + LONGEST_NUMBER)):
            byte = self.image[place]
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value, place + 1
        if end - at > LONGEST_NUMBER:
            raise Failure(f"ROMFS image: the number at byte {at} has more than {LONGEST_NUMBER} bytes")
        raise Failure(f"ROMFS image: a number does not end before byte {end}")

    def records(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Kind, start and end of the payload of each record from `at` to `end`."""
        while at < end:
            where = at
            kind, at = self.number(at, end)
            size, at = self.number(at, end)
            if not kind:
                raise Failure(f"ROMFS image: no record at byte {where}")
            if size > end - at:
                raise Failure(f"ROMFS image: the record at byte {where} claims {size} bytes, {end - at} are there")
            yield kind, at, at + size
            at += size

    def data(self, name: str, at: int, end: int) -> tuple[int, int]:
        """Offset in the image and size of the data of the file with its records from `at` to `end`."""
        for kind, begin, stop in self.records(at, end):
            if kind == VERBATIM:
                return begin, stop - begin
            if kind == POINTER:
                size, begin = self.number(begin, stop)
                offset, _ = self.number(begin, stop)
                offset += self.payload
                if offset + size > len(self.image):
                    raise Failure(f"ROMFS image: {name} reaches beyond the image's {len(self.image)} bytes")
                return offset, size
        raise Failure(f"ROMFS image: {name} has no data")

    def folder(self, prefix: str, at: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name and (offset, size) of all files below the folder with its records from `at` to `end`."""
        for kind, begin, stop in self.records(at, end):
            if kind not in (DIRECTORY, FILE):
                continue
            size, begin = self.number(begin, stop)
            if size > stop - begin:
                raise Failure(f"ROMFS image: a name at byte {begin} reaches beyond its record")
            try:
                name = prefix + self.image[begin : begin + size].decode()
            except UnicodeDecodeError:
                raise Failure(f"ROMFS image: the name at byte {begin} is not UTF-8") from None
            check_name(name, f"ROMFS image: at byte {begin}: ")
            if kind == FILE:
                yield name, self.data(shown(name), begin + size, stop)
            else:
                yield from self.folder(name + "/", begin + size, stop)

    def files(self) -> dict[str, tuple[int, int]]:
        """Name -> (offset, size) of all files."""
        if self.image[: len(MAGIC)] != MAGIC:
            raise Failure("ROMFS image: does not begin with the bytes d2 cd 31")
        size, self.payload = self.number(len(MAGIC), len(self.image))
        if self.payload + size > len(self.image):
            raise Failure(f"ROMFS image: claims {self.payload + size} bytes, has {len(self.image)}")
        found: dict[str, tuple[int, int]] = {}
        for name, place in self.folder("", self.payload, self.payload + size):
            if name in found:
                raise Failure(f"ROMFS image: two files have the name {shown(name)}")
            found[name] = place
        return found


def image_files(image: bytes) -> dict[str, tuple[int, int]]:
    """Name -> (offset in the image, size) of the files of any ROMFS image; a Failure names the damage."""
    return Reader(image).files()


def labels_of(model: Path) -> list[str]:
    """The labels of a model file; a Failure for any error that loading the whole model finds."""
    if not model.is_file():
        raise Failure(f"{model}: no such file")
    use_firmware()
    from ftervit import VisionTransformer

    try:
        return VisionTransformer.load(str(model)).labels
    except ValueError as error:
        raise Failure(str(error)) from None


def pictures_for(labels: list[str]) -> dict[str, Path]:
    """The pictures of firmware/images; "-" replaces "_" after their numbers unless those are classes of this model."""
    names, found = [re.sub("[^a-z0-9-]", "_", label.lower()) for label in labels], {}
    for path in sorted((ROOT / "firmware" / "images").glob("*.p[gp]m")):
        number, _, label = path.stem.partition("_")
        found[path] = number.isdigit() and int(number) < len(names) and names[int(number)] == label
    return {f"images/{path.name if any(found.values()) else path.name.replace('_', '-', 1)}": path for path in found}


def standard_files(model: Path, mpy_version: int = mpy.VERSION) -> dict[str, bytes | Path]:
    """The standard content of an image: model, labels (one per line), package, example scripts, pictures.

    mpy_version: the version of .mpy files that the board reads (lowest byte of sys.implementation._mpy).
    """
    labels = labels_of(model)
    text = "".join(" ".join(label.split()) + "\n" for label in labels)
    files: dict[str, bytes | Path] = {f"models/{model.name}": model, f"models/{model.stem}.txt": text.encode()}
    scripts = {path.name: path for path in sorted((ROOT / "firmware").glob("*.py"))}
    return files | mpy.package(mpy_version) | scripts | pictures_for(labels)


def files_below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """The files below a folder, sorted, links followed; a Failure for anything that an image cannot hold."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        raise Failure(f"{folder}: a link to a folder that it lies in")
    above = (*above, (here.st_dev, here.st_ino))
    if len(above) > DEEPEST:
        raise Failure(f"{shown(str(folder))}: lies in {DEEPEST} folders, an image takes fewer")
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__":
                yield from files_below(path, above)
        elif path.is_file():
            yield path
        else:
            raise Failure(f"{path}: {'a link to nothing' if path.is_symlink() else 'neither a file nor a folder'}")


def given_files(paths: list[Path]) -> dict[str, bytes | Path]:
    """Files under their own names, folders with their contents; links are followed."""
    files: dict[str, Path] = {}
    for path in paths:
        path = Path(os.path.abspath(path))  # a link keeps its name
        if not path.exists():
            raise Failure(f"{path}: no such file or folder")
        for file in [path] if path.is_file() else files_below(path):
            name = file.relative_to(path.parent).as_posix()
            if name in files:
                raise Failure(f"{file}: {files[name]} has the same name")
            files[name] = file
    return dict(files)


def partition_size(table: Path) -> int:
    """Size in bytes of the partition `romfs` in a board's partitions.csv (name, type, subtype, offset, size)."""
    for line in table.read_text().splitlines():
        fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if fields[0] == "romfs":
            size = parse_size(fields[4]) if len(fields) > 4 else None
            if not size:
                raise Failure(f"{table}: the line of romfs must be 'romfs, data, 0x8f, OFFSET, SIZE', not {line!r}")
            return size
    raise Failure(f"{table}: has no partition named romfs")


def tables() -> dict[str, Path]:
    """The partition tables of firmware/boards, by board."""
    return {path.parent.name: path for path in sorted(BOARDS.glob("*/partitions.csv"))}


def room(board: str | None, size: int | None) -> tuple[str, int] | None:
    """The size limit as (its source, bytes), or None if neither board nor size is given."""
    if size is not None:
        return "--size", size
    if board is None:
        return None
    if board not in tables():
        raise Failure(
            f"--board {board}: no such board with a partitions.csv; the boards are: {', '.join(tables()) or 'none'}"
        )
    return f"the romfs partition of {board}", partition_size(tables()[board])


def size_argument(text: str) -> int:
    """argparse's type for --size."""
    size = parse_size(text)
    if not size:
        raise argparse.ArgumentTypeError(f"{text} is not a size like 4194304, 0x400000 or 4M")
    return size


def report(image: bytes) -> None:
    """Print offset and size of each file, the image's size, and which boards it fits."""
    for name, (offset, size) in image_files(image).items():
        print(f"  {offset:#010x} {size:10,d}  {name}")
    for board, table in tables().items():
        size = partition_size(table)
        verdict = "fits" if len(image) <= size else "too large"
        print(f"{board}: {len(image):,} bytes needed, its romfs partition has {size:,}: {verdict}")


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="just romfs", description="Build a ROMFS image with aligned files.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="model file (.safetensors)")
    parser.add_argument("files", type=Path, nargs="*", default=[], metavar="FILES", help="files and folders to add")
    parser.add_argument("--board", help="refuse an image larger than the romfs partition of firmware/boards/BOARD")
    parser.add_argument("--size", type=size_argument, metavar="BYTES", help="refuse an image larger than this")
    parser.add_argument("--output", type=Path, metavar="FILE", help="image file (default build/romfs/MODEL.romfs)")
    arguments = parser.parse_args()
    limit = room(arguments.board, arguments.size)
    image = build_image({**standard_files(arguments.model), **given_files(arguments.files)})
    if limit and len(image) > limit[1]:
        raise Failure(
            f"the image needs {len(image):,} bytes, {limit[0]} has {limit[1]:,}: use a smaller model or fewer files"
        )
    output = arguments.output or BUILD / "romfs" / f"{arguments.model.stem}.romfs"
    write_whole(output, image)
    report(image)
    if limit:
        print(f"{output}: {len(image):,} bytes needed, {limit[0]} has {limit[1]:,}")
    else:
        print(f"{output}: {len(image):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
