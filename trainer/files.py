# SPDX-License-Identifier: MIT
"""Files that a crash or power cut never leaves half written."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from trainer.errors import TrainerError
from trainer.paths import ROOT


@contextmanager
def opened_alone(path: Path) -> Iterator[BinaryIO]:
    """An empty file to write, open once no other process has it open in this way; OSError if it cannot be."""
    while True:
        with open(path, "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            # The process that had it may have renamed or removed what was opened here.
            still_there = False
            with suppress(FileNotFoundError):
                still_there = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if still_there:
                file.truncate(0)
                yield file
                return


def write_atomically(content: bytes | memoryview, path: Path) -> None:
    """Write a file so that `path` always holds either the old or the new content, whole; processes take turns.

    TrainerError names a file that cannot be written, for example on a full disk; the partial file is removed.
    """
    half_written = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened_alone(half_written) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(half_written, path)
            except OSError:
                # Frees disk space, while no other process can have begun to write it.
                with suppress(OSError):
                    half_written.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise TrainerError(f"{path}: cannot be written ({error.strerror})") from None


def write_json(values: Any, path: Path) -> None:
    """Write plain values as readable JSON, whole or not at all."""
    write_atomically((json.dumps(values, indent=1) + "\n").encode(), path)


def commit() -> str | None:
    """The commit of the repository that this is run from, with "-changed" if files differ; None outside of one."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        state = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    except OSError:
        return None
    return None if head.returncode else head.stdout.strip() + ("-changed" if state.stdout.strip() else "")
