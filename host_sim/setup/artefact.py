# SPDX-License-Identifier: MIT
"""What recipes make once and keep under build/ and in .venv: whole, or made anew. SIGKILL may come at any moment.

A file gets its name when it is whole (`new_file`, `write_whole`). A folder that tools fill step by step has a file
MARKER in it while they do (`changing`): one that still has it was left unfinished, and starts empty (`filled`). The
standard library alone is used: .venv is made with it.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_sim.setup.shell import ToolFailure, hold, released

MARKER = "unfinished"
SETTINGS = "made-with"


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Where to write a file that is to be at `path`, once the block has ended and not before.

    Who writes a path at the same time as others holds a lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file of which others see the old or the new content, and neither in part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write the same path: the last one counts.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def interrupted(folder: Path) -> bool:
    """Whether a folder was left unfinished; waits while another process, or a tool that it left, changes it."""
    return released(folder / MARKER)


def empty(folder: Path) -> None:
    """Remove all that a folder holds; it counts as unfinished from the first removal on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Mark a folder as unfinished while the block runs, and permanently if a kill or an exception ends the block.

    A tool that failed by itself leaves no half-made file (make: .DELETE_ON_ERROR), and the folder is kept.
    """
    with hold(folder / MARKER):
        try:
            yield
        except ToolFailure:
            (folder / MARKER).unlink()
            raise
        (folder / MARKER).unlink()


@contextlib.contextmanager
def filled(folder: Path, settings: Sequence[str], files: Sequence[Path] = ()) -> Iterator[None]:
    """Let tools fill a folder as far as it is out of date; it starts empty if it is unfinished or made otherwise.

    settings, files: what its content depends on and the tools do not compare: make sees changed files, but not changed
    settings.
    """
    words = [*settings, *(text for file in files for text in (str(file), file.read_text()))]
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()
    stamp = folder / SETTINGS
    if interrupted(folder) or not stamp.is_file() or stamp.read_text() != digest:
        empty(folder)
    with changing(folder):
        stamp.write_text(digest)
        yield
