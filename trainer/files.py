# SPDX-License-Identifier: MIT
"""Files that a crash or power cut never leaves half written."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.paths import ROOT


def write_atomically(content: bytes | memoryview, path: Path) -> None:
    """Write a file so that `path` always holds either the old or the new content, whole.

    TrainerError names a file that cannot be written, for example on a full disk; the partial file is removed.
    """
    half_written = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(half_written, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half_written, path)
    except OSError as error:
        # Frees disk space; the file or its folder may be missing.
        with suppress(OSError):
            half_written.unlink(missing_ok=True)
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
