# SPDX-License-Identifier: MIT
"""A board's copies of files, under build/board: they are removed after the process that made them ends, even by a kill.

Each is a folder with two entries: FILES, what the board runs from, and LOCK, which its process holds.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from host_sim.setup import shell

LOCK, FILES = "lock", "files"
PREFIXES = ("esp32s3-", "flash-", "qemu-")


@contextlib.contextmanager
def copies(prefix: str) -> Iterator[Path]:
    """An empty folder while the block lasts. The copies of killed processes are removed first.

    prefix: of the folder's name, one of PREFIXES.
    """
    assert prefix in PREFIXES
    board = shell.BUILD / "board"
    board.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with shell.lock("board"):  # no other process sweeps a folder before its lock is held
            sweep(board)
            folder = Path(tempfile.mkdtemp(dir=board, prefix=prefix))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            # An emulator must not keep the lock of a killed board.
            stack.enter_context(shell.hold(folder / LOCK, tools=False))
        files = folder / FILES
        files.mkdir()
        yield files


def sweep(board: Path) -> None:
    """Remove the copies whose process has ended."""
    for folder in (path for prefix in PREFIXES for path in board.glob(f"{prefix}*")):
        try:
            with shell.idle(folder / LOCK) as ended:
                if ended:
                    # The lock file is removed last, so that a half-removed folder is found again.
                    shutil.rmtree(folder / FILES, ignore_errors=True)
                    shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                folder.rmdir()  # its process ended before it made the lock, or it is not one of ours
