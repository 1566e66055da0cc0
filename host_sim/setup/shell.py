# SPDX-License-Identifier: MIT
"""Paths of the tree, and helpers to run tools: log files, progress lines, locks, and one-line errors.

It runs before any package is installed, so it uses only the standard library.
"""

import contextlib
import errno
import fcntl
import functools
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "log"
VENV = ROOT / ".venv"
FREE_SPACE = "free some space and run it again"
DISK_FULL = f"the disk is full: {FREE_SPACE}"
# Allowed in paths besides letters and digits: others are special to make, compilers, QEMU or a makefile's shell.
PATH_CHARACTERS = "/._-+@"
HINTS = (
    (r"No space left on device|Errno 28", DISK_FULL),
    (r"Could not get lock|Unable to acquire the dpkg", "another package manager is running: wait for it"),
    (
        r"Temporary failure|Could ?n[o']t resolve|Network is unreachable|Failed to establish|Failed to fetch"
        r"|network was disabled|Unable to fetch|Connection (refused|timed out|reset)|Max retries"
        r"|Name or service not known",
        "the network or the package registry did not answer: check the connection and run it again",
    ),
    (
        r"No matching distribution|Unable to locate package|No solution found|no wheels with",
        "the registry does not have it for this machine",
    ),
    (
        r"Hash mismatch|DO NOT MATCH THE HASHES",
        "a downloaded package does not match its hash in requirements.lock: it was changed at the index or on the way",
    ),
    (r"ensurepip is not available|No module named '?ensurepip", "install python3-venv"),
)


class Failure(Exception):
    """An error that stops a recipe; its message tells the user in one line what failed and what to do."""


class ToolFailure(Failure):
    """A tool reported an error and exited by itself, so it removed its unfinished output."""


def check_path(path: Path, what: str) -> None:
    """Refuse a path with a character that is special to make, compilers or emulators."""
    for character in str(path):
        if not character.isalnum() and character not in PATH_CHARACTERS:
            name = "a space" if character == " " else ascii(character)
            raise Failure(
                f"the path of {what} has {name} in it, which make and compilers do not take: {str(path)!a}; use one "
                f"of letters, digits and {' '.join(PATH_CHARACTERS)}"
            )


def processors() -> int:
    """Processors that this process may use; macOS does not say which, only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


TICK = 1.0  # seconds between two looks at a step, on a terminal


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder, which others may change meanwhile; 0 if it is not there."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


@contextlib.contextmanager
def step(label: str, folder: Path | None = None) -> Iterator[None]:
    """Print a progress line for a step: the label, then the seconds that it took, and by how much a folder grew.

    On a terminal the line is kept up to date while the step runs.
    """
    start, before = time.monotonic(), bytes_in(folder) if folder else 0
    ended = threading.Event()

    def so_far() -> str:
        grown = (bytes_in(folder) - before) / 1e6 if folder else 0.0
        return f"{time.monotonic() - start:.0f} s" + (f", {grown:.0f} MB" if grown >= 0.5 else "")

    def show() -> None:
        while not ended.wait(TICK):
            print(f"\r{label} ... {so_far()}", end="", file=sys.stderr, flush=True)

    print(f"{label} ... ", end="", file=sys.stderr, flush=True)
    shown = threading.Thread(target=show, daemon=True) if sys.stderr.isatty() else None
    result = "failed"
    try:
        if shown:
            shown.start()
        yield
        result = so_far()
    finally:
        ended.set()
        again = ""
        if shown:
            shown.join()
            # Over what was there, and to the end of the line (ECMA-48).
            again = f"\r{label} ... \033[K"
        print(f"{again}{result}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def hold(path: Path, *, tools: bool = True) -> Iterator[TextIO]:
    """Create a file and lock it while the block runs, at most until the process ends; yields it open for writing.

    tools: the tools that `run` starts inherit the lock, so that a tool that outlives a killed holder keeps it.
    """
    while True:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with step(f"waiting for another process that holds {os.path.relpath(path, ROOT)}"):
                    fcntl.flock(file, fcntl.LOCK_EX)
            if not same_file(file.fileno(), path):  # removed while we waited
                continue
            os.set_inheritable(file.fileno(), tools)
            yield file
            # Not after an exception: an interrupted tool may still run, and keeps the lock until it ends.
            fcntl.flock(file, fcntl.LOCK_UN)
            return


@contextlib.contextmanager
def idle(path: Path) -> Iterator[bool]:
    """Whether no process has locked an existing file; none can lock it while the block runs."""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def released(path: Path) -> bool:
    """Wait until no process has locked a file; returns whether it still exists."""
    while True:
        try:
            file = open(path)  # noqa: SIM115
        except FileNotFoundError:
            return False
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if same_file(file.fileno(), path):
                return True


def same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock `name`, so that one process at a time runs the block."""
    BUILD.mkdir(exist_ok=True)
    with hold(BUILD / f".{name}.lock"):
        yield


def reason(output: str) -> str:
    """The reason for a tool's failure, from its output, or an empty string."""
    for pattern, text in HINTS:
        if re.search(pattern, output):
            return text
    kinds = r"error: |undefined reference to |multiple definition of "
    error = re.search(rf"^.*\b(?:{kinds}).*$", output, flags=re.MULTILINE | re.IGNORECASE)
    return error[0].strip() if error else ""


def run(
    command: Sequence[str | Path],
    what: str,
    log: str,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
) -> None:
    """Run a tool with its output in build/log/`log`; a Failure names `what`, the reason and that file.

    A tool that exits with an error raises ToolFailure, unless the disk is full. timeout: seconds after which the tool
    is killed, which raises Failure.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / log
    with open(path, "w") as output:
        print("$", shlex.join(map(str, command)), file=output, flush=True)
        try:
            status = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=timeout,
                close_fds=False,  # only descriptors of locks are inheritable
            ).returncode
        except subprocess.TimeoutExpired:
            raise Failure(f"{what} failed: {command[0]} took longer than {timeout:g} s") from None
        except FileNotFoundError:
            raise Failure(f"{what} failed: {command[0]} is not installed") from None
    if status:
        _, _, text = path.read_text(errors="replace").partition("\n")
        why = reason(text) or f"{command[0]} stopped with status {status}"
        kind = ToolFailure if status > 0 and why != DISK_FULL else Failure
        raise kind(f"{what} failed: {why} (its output: {os.path.relpath(path, ROOT)})")


def one_line_errors(main: Callable[[], None]) -> Callable[[], int]:
    """Wrap a script's main so that any error is one line on stderr; the wrapper returns the exit status."""

    @functools.wraps(main)
    def guarded() -> int:
        try:
            main()
        except Failure as failure:
            return complain(str(failure))
        except KeyboardInterrupt:
            return complain("interrupted", 130)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return complain(f"the disk is full ({error.filename or ROOT}): {FREE_SPACE}")
            return complain(f"{error} (details: {save_traceback()})")
        except Exception as error:
            return complain(f"unexpected {type(error).__name__}: {error} (details: {save_traceback()})")
        return 0

    return guarded


def complain(message: str, status: int = 1) -> int:
    """Print the error line and return the exit status."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status


def save_traceback() -> str:
    """Write the current exception's traceback under build/log; returns the file's path."""
    path = LOGS / "traceback.log"
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError as error:
        return f"not saved, {error}"
    return str(path.relative_to(ROOT))
