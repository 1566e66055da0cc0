# SPDX-License-Identifier: MIT
"""Which files are readable pictures, and the digests of their contents: each file is read once, results are cached.

What is wrong with the others is told, and listed in a file.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import PIL
from PIL import Image
from tqdm import tqdm

from trainer.data.archive import ZipFolder
from trainer.data.decode import UnreadableError, content_digest, decode, read_file
from trainer.data.shrunk import Writer
from trainer.errors import TrainerError, one_line
from trainer.files import write_atomically
from trainer.paths import shown

# Files that are still read after an interruption, and whose shrunk photos (some MB each) wait for a slow disk, at most.
CHUNK = 64
# File systems write times in steps of up to 10 ms: a file may change within one without changing its times.
SETTLED_NS = 30_000_000
NAMED = 3  # files that a line names; a file lists all


def looked_at(content: bytes) -> tuple[Image.Image | None, str]:
    """The picture of a file's content, or None and why it has none."""
    try:
        return decode(content), ""
    except UnreadableError as error:
        return None, str(error)


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


def place_digest(root: Path) -> str:
    """What tells the cache of a folder from that of another."""
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


Made = dict[str, Any]  # of shrunk.Forms.of


class Verdicts:
    """Verdicts for the files of a folder, by name. writer: to which photos go when they are decoded."""

    def __init__(self, root: Path, cache: Path | None, writer: Writer | None = None):
        self.root, self.writer = root, writer
        self.path = None if cache is None else cache / f"pictures-{place_digest(root)}.json"
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

    def wants(self, problem: str, digest: str) -> bool:
        """Whether the pixels of a picture are to be kept and are not yet."""
        return self.writer is not None and not problem and self.writer.wants(digest)

    def look(self, name: str) -> tuple[Verdict, Made]:
        """The result for one file, and what is kept of its picture, if that is new."""
        path = self.root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None
        known, now = self.known.get(name), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if known is not None and tuple(known[:3]) == now and not self.wants(known[3], known[4]):
            return Verdict(*known), {}
        age = time.time_ns() - stat.st_ctime_ns
        if 0 <= age < SETTLED_NS:
            time.sleep((SETTLED_NS - age) / 1e9)
        content = read_file(path)
        (image, problem), digest = looked_at(content), content_digest(content)
        made: Made = {}
        if image is not None and self.writer is not None and self.wants(problem, digest):
            made = self.writer.forms.of(image)
        return Verdict(*now, problem, digest), made


def find_problems(
    root: Path, files: Sequence[str], cache: Path | None, workers: int, writer: Writer | None = None
) -> list[Verdict]:
    """The verdict for each file. cache: folder for the results; writer: keeps what training needs of photos."""
    verdicts = Verdicts(root, cache, writer)
    found: dict[str, Verdict] = {}
    if writer is not None:
        writer.touch(verdicts.known[name][4] for name in files if name in verdicts.known)
    bar = tqdm(total=len(files), desc=f"checking {root.name}", unit=" pictures", leave=False, disable=None)
    try:
        # Threads suffice: Pillow releases Python's lock while it decodes.
        with bar, ThreadPoolExecutor(max(workers, 1)) as pool:
            for start in range(0, len(files), CHUNK):
                chunk = files[start : start + CHUNK]
                for name, (verdict, made) in zip(chunk, pool.map(verdicts.look, chunk), strict=True):
                    found[name] = verdict
                    if writer is not None and made:
                        writer.add(verdict.digest, made)
                    bar.update()
    finally:
        verdicts.keep(found)
        if writer is not None:
            writer.flush()
    return [found[name] for name in files]


def tell_skipped(root: Path | ZipFolder, skipped: Mapping[str, str], beside: Sequence[str], cache: Path | None) -> None:
    """Say on stderr what is left out, first files first, and list all of it in a file in `cache`.

    skipped: why, by path below root; beside: pictures in root itself, which belong to no class.
    """
    listed = {**skipped, **dict.fromkeys(beside, "beside the class folders")}
    where = "" if cache is None else list_skipped(root, listed, cache)
    if skipped:
        files = "file" if len(skipped) == 1 else "files"
        named = named_first([f"{name} ({why})" for name, why in skipped.items()])
        print(f"{root}: skipped {len(skipped)} {files}: {named}{where}", file=sys.stderr)
    if beside:
        pictures = "picture belongs" if len(beside) == 1 else "pictures belong"
        named = named_first(beside)
        print(
            f"{root}: {len(beside)} {pictures} to no class, beside the class folders: {named}{where}", file=sys.stderr
        )


def named_first(names: Sequence[str]) -> str:
    """The first few, as a line."""
    return ", ".join(map(one_line, names[:NAMED])) + (", .." if len(names) > NAMED else "")


def list_skipped(root: Path | ZipFolder, listed: Mapping[str, str], cache: Path) -> str:
    """Write the list of what is skipped, or remove one that is no longer true; words that name it."""
    path = cache / f"skipped-{place_digest(Path(str(root)))}.txt"
    if not listed:
        path.unlink(missing_ok=True)
        return ""
    lines = "".join(one_line(f"{root}/{name}: {why}") + "\n" for name, why in listed.items())
    write_atomically(lines.encode(), path)
    return f"; all in {shown(path)}"
