# SPDX-License-Identifier: MIT
"""Files that a crash or power cut never leaves half written."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file so that `path` always holds either the old or the new content, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(f".{path.name}.tmp")
    with open(half_written, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half_written, path)


def write_json(values: Any, path: Path) -> None:
    """Write plain values as JSON for people and tools, whole or not at all."""
    write_atomically((json.dumps(values, indent=1) + "\n").encode(), path)
