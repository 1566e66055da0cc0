# SPDX-License-Identifier: MIT
"""Which files are readable pictures: each file is opened once and the result is cached."""

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

CHUNK = 256  # files that an interruption waits for at most


def problem(content: bytes) -> str:
    """Why a file's content is no readable picture; "" if it is one."""
    try:
        decode(content)
    except UnreadableError as error:
        return str(error)
    return ""


class Verdicts:
    """Results for the files of a folder, by name: size, modification time in ns, problem."""

    def __init__(self, root: Path, cache: Path | None):
        self.root = root
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self.path = None if cache is None else cache / f"pictures-{digest}.json"
        # Another version of Pillow may read other files.
        self.heading = {"folder": str(root.resolve()), "pillow": PIL.__version__}
        self.known = self.read()

    def read(self) -> dict[str, list[Any]]:
        """The results of earlier runs; none if the cache is of another folder or version."""
        try:
            content = json.loads(self.path.read_text()) if self.path else {}
            files = content.pop("files", {})
            return dict(files) if content == self.heading else {}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep(self, found: dict[str, list[Any]]) -> None:
        """Add results to the cache, if there is one."""
        known = {**self.known, **found}
        if self.path and known != self.known:
            self.known = known
            write_atomically(json.dumps({**self.heading, "files": self.known}).encode(), self.path)

    def look(self, name: str) -> list[Any]:
        """The result for one file."""
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
    """For each file why it is no readable picture, "" if it is one. cache: folder for the results."""
    verdicts, found = Verdicts(root, cache), {}
    bar = tqdm(total=len(files), desc=f"checking {root.name}", unit=" pictures", leave=False, disable=None)
    try:
        # Threads suffice: Pillow releases Python's lock while it decodes.
        with bar, ThreadPoolExecutor(max(workers, 1)) as pool:
            for start in range(0, len(files), CHUNK):
                chunk = files[start : start + CHUNK]
                found.update(zip(chunk, pool.map(verdicts.look, chunk), strict=True))
                bar.update(len(chunk))
    finally:
        verdicts.keep(found)
    return [found[name][2] for name in files]
