# SPDX-License-Identifier: MIT
"""What tests of virtual boards look at: processes, and the bytes on a terminal."""

import contextlib
import os
import select
import time
import tty
from pathlib import Path

# For a script: a board whose firmware has no module of ours.
WITHOUT_MODULE = """
import builtins
importer = builtins.__import__
def without_ternary(name, *rest):
    if name == "ternary":
        raise ImportError("no module named 'ternary'")
    return importer(name, *rest)
builtins.__import__ = without_ternary
"""


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def running(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 10) -> bool:
    """Wait for a condition; returns whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Terminal:
    """Bytes to and from a terminal: the board's device, or one that mpremote runs on."""

    def __init__(self, fd: int):
        self.fd, self.unread = fd, b""

    @classmethod
    def of(cls, path: str) -> "Terminal":
        """A plain client of a board's device, without mpremote."""
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        return cls(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read_until(self, ending: bytes, seconds: float = 10) -> bytes:
        """Everything up to `ending`; fails the test when that does not come."""
        while ending not in self.unread:
            readable, _, _ = select.select([self.fd], [], [], seconds)
            assert readable, f"{ending!r} did not come, only {self.unread!r}"
            self.unread += os.read(self.fd, 4096)
        before, _, self.unread = self.unread.partition(ending)
        return before + ending

    def fresh_prompt(self) -> None:
        """Leave whatever the last client was doing."""
        self.send(b"\r\x03\x03\x02")
        self.read_until(b"for more information.\r\n>>> ")
