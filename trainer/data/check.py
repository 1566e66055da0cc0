# SPDX-License-Identifier: MIT
"""Which files are readable pictures: each is opened once, the verdict is kept."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from trainer.data.decode import UnreadableError, decode, read_file
from trainer.errors import TrainerError
from trainer.files import write_atomically

CHUNK = 256  # files in flight: an interruption waits for no more


def problem(content: bytes) -> str:
    """Why a file's content is no readable picture; "" if it is one."""
    try:
        decode(content)
    except UnreadableError as error:
        return str(error)
    return ""


class Verdicts:
    """What is known of the files of a folder, by name: size, modification time in ns, problem."""

    def __init__(self, root: Path, cache: Path | None):
        self.root = root
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self.path = None if cache is None else cache / f"pictures-{digest}.json"
        # Another Pillow may read other files.
        self.heading = {"folder": str(root.resolve()), "pillow": PIL.__version__}
        self.known = self.read()

    def read(self) -> dict[str, list[Any]]:
        """The verdicts of earlier runs; none where the file does not fit."""
        try:
            content = json.loads(self.path.read_text()) if self.path else {}
            files = content.pop("files", {})
            return dict(files) if content == self.heading else {}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep(self, found: dict[str, list[Any]]) -> None:
        """Add verdicts to the file, where there is a cache folder."""
        known = {**self.known, **found}
        if self.path and known != self.known:
            self.known = known
            write_atomically(json.dumps({**self.heading, "files": self.known}).encode(), self.path)

    def look(self, name: str) -> list[Any]:
        """The verdict on one file."""
        path = self.root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None
        known = self.known.get(name)
        if isinstance(known, list) and known[:2] == [stat.st_size, stat.st_mtime_ns] and len(known) == 3:
            return known
        return [stat.st_size, stat.st_mtime_ns, problem(read_file(path))]


def find_problems(root: Path, files: Sequence[str], cache: Path | None, workers: int) -> list[str]:
    """For each file why it is no readable picture, "" for those that are. cache: a folder for the verdicts."""
    verdicts, found = Verdicts(root, cache), {}
    bar = tqdm(total=len(files), desc=f"checking {root.name}", unit=" pictures", leave=False, disable=None)
    try:
        # Threads: Pillow decodes without Python's lock.
        with bar, ThreadPoolExecutor(max(workers, 1)) as pool:
            for start in range(0, len(files), CHUNK):
                chunk = files[start : start + CHUNK]
                found.update(zip(chunk, pool.map(verdicts.look, chunk), strict=True))
                bar.update(len(chunk))
    finally:
        verdicts.keep(found)
    return [found[name][2] for name in files]
