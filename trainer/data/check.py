# SPDX-License-Identifier: MIT
"""Which files are readable pictures, and the digests of their contents: each file is read once, results are cached."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from tqdm import tqdm

from trainer.data.decode import UnreadableError, content_digest, decode, read_file
from trainer.errors import TrainerError
from trainer.files import write_atomically

CHUNK = 256  # files that are still read after an interruption, at most
# File systems write times in steps of up to 10 ms: a file may change within one without changing its times.
SETTLED_NS = 30_000_000


def problem(content: bytes) -> str:
    """Why a file's content is no readable picture; "" if it is one."""
    try:
        decode(content)
    except UnreadableError as error:
        return str(error)
    return ""


class Verdict(NamedTuple):
    """What reading a file gave. The first three are the file's when it was read: they change with its content, as no
    program can set the time of the last change.

    problem: why it is no readable picture, "" if it is one; digest: of its content.
    """

    size: int
    modified_ns: int
    changed_ns: int
    problem: str
    digest: str


def digest_of(files: dict[str, list[Any]]) -> str:
    """The digest that a cache of verdicts holds of itself."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


class Verdicts:
    """Verdicts for the files of a folder, by name."""

    def __init__(self, root: Path, cache: Path | None):
        self.root = root
        digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self.path = None if cache is None else cache / f"pictures-{digest}.json"
        # Another version of Pillow may read other files.
        self.heading = {"folder": str(root.resolve()), "pillow": PIL.__version__}
        self.known = self.read()

    def read(self) -> dict[str, list[Any]]:
        """The results of earlier runs; none if the cache is damaged, or of another folder or version."""
        try:
            content = json.loads(self.path.read_text()) if self.path else {}
            files = content.pop("files", {})
            return dict(files) if content == {**self.heading, "digest": digest_of(files)} else {}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep(self, found: dict[str, Verdict]) -> None:
        """Add results to the cache, if there is one."""
        known = self.known | {name: list(verdict) for name, verdict in found.items()}
        if self.path and known != self.known:
            self.known = known
            content = {**self.heading, "digest": digest_of(known), "files": known}
            write_atomically(json.dumps(content).encode(), self.path)

    def look(self, name: str) -> Verdict:
        """The result for one file."""
        path = self.root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None
        known, now = self.known.get(name), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if known is not None and tuple(known[:3]) == now:
            return Verdict(*known)
        age = time.time_ns() - stat.st_ctime_ns
        if 0 <= age < SETTLED_NS:
            time.sleep((SETTLED_NS - age) / 1e9)
        content = read_file(path)
        return Verdict(*now, problem(content), content_digest(content))


def find_problems(root: Path, files: Sequence[str], cache: Path | None, workers: int) -> list[Verdict]:
    """The verdict for each file. cache: folder for the results."""
    verdicts = Verdicts(root, cache)
    found: dict[str, Verdict] = {}
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
    return [found[name] for name in files]
