# SPDX-License-Identifier: MIT
"""What recipes make once and keep under build/ and in .venv: complete, or made again. SIGKILL may come at any moment.

A file gets its name when it is complete (`new_file`, `write_whole`). A folder that tools fill step by step contains the
file MARKER meanwhile (`changing`): a folder that still has it was left unfinished, and is emptied first (`filled`).
Only the standard library is used, because .venv is made with this.
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
    """Where to write a file that appears at `path` when the block ends without an exception.

    Processes that may write the same path at the same time must hold a lock.
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
    """Write a file atomically: others see the old or the new content, never part of either."""
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
    """Remove everything in a folder; it counts as unfinished from the first removal on."""
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

    After a ToolFailure the folder is kept: a tool that exits with an error leaves no half-made file (make:
    .DELETE_ON_ERROR).
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
    """Let tools update a folder; it is emptied first if it was left unfinished or its `settings` or `files` changed.

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
