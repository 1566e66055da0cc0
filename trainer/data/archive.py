# SPDX-License-Identifier: MIT
"""Folders within a zip file, with the part of pathlib's interface that listing uses; nothing is extracted."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import TrainerError

LARGEST_MEMBER = 256 << 20  # bytes of one picture: a zip file may claim to hold far more than it has


@dataclass(frozen=True)
class ZipEntry:
    """A file or folder of a zip file, as os.DirEntry."""

    name: str
    folder: bool

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.folder

    def is_file(self) -> bool:
        """Whether it is a file."""
        return not self.folder


class Archive:
    """An open zip file. entries: by folder ("" or ending in "/"), the names in it and whether each is a folder."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise TrainerError(f"{path}: not a readable zip file ({error})") from None
        self.entries: dict[str, dict[str, bool]] = {"": {}}
        for member in self.file.namelist():
            above = ""
            *folders, name = member.split("/")
            for folder in folders:
                self.entries[above][folder] = True
                above += f"{folder}/"
                self.entries.setdefault(above, {})
            if name:
                self.entries[above].setdefault(name, False)

    def digest(self, member: str) -> str:
        """What tells a member's content from another: its CRC-32, which `read` checks, and its size."""
        info = self.file.getinfo(member)
        return f"{info.CRC:08x}{info.file_size:08x}"

    def read(self, member: str) -> bytes:
        """A member's content; TrainerError for one that is damaged."""
        try:
            if self.file.getinfo(member).file_size > LARGEST_MEMBER:
                raise TrainerError(f"{self.path}/{member}: larger than {LARGEST_MEMBER >> 20} MB")
            return self.file.read(member)
        except TrainerError:
            raise
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as error:
            raise TrainerError(f"{self.path}/{member}: cannot be read ({error})") from None


@dataclass(frozen=True)
class ZipFolder:
    """A folder of a zip file, or the path of a file in it. inside: "" or a path without "/" at its end."""

    archive: Archive
    inside: str = ""

    def __truediv__(self, name: str) -> "ZipFolder":
        return ZipFolder(self.archive, f"{self.inside}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.inside}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.inside.rpartition("/")[2] or self.archive.path.name

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self.inside or f"{self.inside}/" in self.archive.entries

    def is_file(self) -> bool:
        """Whether it is a file."""
        above, slash, name = self.inside.rpartition("/")
        return self.archive.entries.get(above + slash, {}).get(name) is False

    @contextmanager
    def scan(self) -> Iterator[list[ZipEntry]]:
        """As os.scandir."""
        names = self.archive.entries[f"{self.inside}/" if self.inside else ""]
        yield [ZipEntry(name, folder) for name, folder in names.items()]

    def read_bytes(self) -> bytes:
        """As pathlib's."""
        return self.archive.read(self.inside)


def data_root(path: str) -> Path | ZipFolder:
    """The folder that a path in the settings means: a folder, or a zip file as if it were one."""
    found = Path(path).expanduser()
    return ZipFolder(Archive(found)) if found.suffix.lower() == ".zip" and found.is_file() else found
