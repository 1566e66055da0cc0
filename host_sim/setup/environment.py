# SPDX-License-Identifier: MIT
"""The virtual environment and the system packages that the recipes need.

`python3 -m host_sim.setup.environment demo|lint|test|train|eval|lx7|flash|qemu` installs what that recipe misses and
nothing else. It runs on the system's own Python before any package exists, so it uses the standard library alone;
host_sim/unix_port.py and host_sim/board.py share its log files, progress lines and error lines.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older Python meets first
    sys.exit(f"error: Python 3.11 or newer is needed, {sys.executable} is older: set PYTHON to another one")

import argparse
import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "log"
VENV = ROOT / ".venv"

GROUPS = {
    "demo": ("light",),
    "lint": ("dev",),
    "test": ("light", "dev", "pictures", "train"),
    "train": ("light", "pictures", "train"),
    "eval": ("light", "pictures", "train"),
    "lx7": ("light", "pictures"),
    "flash": ("light", "flash"),
    "qemu": ("light",),
}
DATASET = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
NEEDS_MICROPYTHON = {"demo", "test", "qemu"}
# Those that read Fashion-MNIST, those that compile C for this machine, and those that do so for the ESP32-S3's core.
NEEDS_DATASET = {"test", "train", "eval"}
NEEDS_HOST_BUILD = NEEDS_DATASET | {"lx7"}
NEEDS_XTENSA = {"test", "lx7"}
NEEDS_ARM = {"test", "qemu"}
# The first LLVM that Debian builds with the Xtensa target.
OLDEST_LLVM = 22
XTENSA_LINKER = "xtensa-lx106-elf-ld"
XTENSA_EMULATOR = "qemu-system-xtensa"
ARM_COMPILER = "arm-none-eabi-gcc"
ARM_EMULATOR = "qemu-system-arm"

APT_INSTALL = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y")

FREE_SPACE = "free some space and run it again"
HINTS = (
    (r"No space left on device|Errno 28", f"the disk is full: {FREE_SPACE}"),
    (r"Could not get lock|Unable to acquire the dpkg", "another package manager is running: wait for it"),
    (
        r"Temporary failure|Could ?n[o']t resolve|Network is unreachable|Failed to establish|Failed to fetch"
        r"|Unable to fetch|Connection (refused|timed out|reset)|Max retries|Name or service not known",
        "the network or its package registry did not answer: check the connection and run it again",
    ),
    (r"No matching distribution|Unable to locate package", "the registry does not have it for this machine"),
    (r"ensurepip is not available|No module named '?ensurepip", "install python3-venv"),
)


class Failure(Exception):
    """What stops a recipe, as one line for the reader: what failed and what to do."""


@contextlib.contextmanager
def step(label: str) -> Iterator[None]:
    """Print a progress line around a step: the label, then the seconds that it took."""
    start = time.monotonic()
    print(f"{label} ... ", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print("failed", file=sys.stderr, flush=True)
        raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Let one process at a time prepare the thing called `name`."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / f".{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def reason(output: str) -> str:
    """What a tool's output says about why it failed, or an empty string."""
    for pattern, text in HINTS:
        if re.search(pattern, output):
            return text
    error = re.search(r"^.*\berror: .*$", output, flags=re.MULTILINE | re.IGNORECASE)
    return error[0].strip() if error else ""


def run(
    command: Sequence[str | Path],
    what: str,
    log: str,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
) -> None:
    """Run a tool with its output in build/log/`log`; a Failure names `what`, the reason and that file."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / log
    with open(path, "w") as output:
        print("$", shlex.join(map(str, command)), file=output, flush=True)
        try:
            status = subprocess.run(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ).returncode
        except FileNotFoundError:
            raise Failure(f"{what} failed: {command[0]} is not installed") from None
    if status:
        _, _, output = path.read_text(errors="replace").partition("\n")
        why = reason(output) or f"{command[0]} stopped with status {status}"
        raise Failure(f"{what} failed: {why} (its output: {path.relative_to(ROOT)})")


def one_line_errors(main: Callable[[], None]) -> Callable[[], int]:
    """Wrap a script's main so that whatever stops it is one line on stderr; returns the exit status."""

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
    """Write the current exception's traceback under build/log; returns where."""
    path = LOGS / "traceback.log"
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError as error:
        return f"not saved, {error}"
    return str(path.relative_to(ROOT))


def missing_packages(task: str) -> dict[str, str]:
    """What the task lacks on this system: thing -> Debian package that has it."""
    missing = {}
    if importlib.util.find_spec("ensurepip") is None and not python().exists():
        missing["Python's venv module"] = "python3-venv"
    if task in NEEDS_MICROPYTHON | NEEDS_HOST_BUILD:
        missing |= {tool: tool for tool in ("gcc", "make") if not shutil.which(tool)}
        if not has_header("stdio.h"):
            missing["the C library's headers"] = "libc6-dev"
    if task in NEEDS_DATASET and not DATASET.exists():
        missing["the Fashion-MNIST pictures"] = "dataset-fashion-mnist"
    if task in NEEDS_XTENSA:
        missing |= missing_xtensa_packages()
    if task == "test" and not shutil.which(XTENSA_EMULATOR):
        missing[XTENSA_EMULATOR] = "qemu-system-misc"
    if task == "test" and not shutil.which("cmake"):
        missing["cmake"] = "cmake"
    if task in NEEDS_ARM:
        missing |= missing_arm_packages()
    return missing


def missing_arm_packages() -> dict[str, str]:
    """What building and running firmware for a Cortex-M lacks: thing -> Debian package."""
    missing = {}
    if not shutil.which(ARM_COMPILER):
        missing[ARM_COMPILER] = "gcc-arm-none-eabi"
    if not shutil.which(ARM_COMPILER) or not has_header("stdio.h", ARM_COMPILER):
        missing["the C library's headers for Cortex-M"] = "libnewlib-arm-none-eabi"
    if not shutil.which(ARM_EMULATOR):
        missing[ARM_EMULATOR] = "qemu-system-arm"
    return missing


def missing_xtensa_packages() -> dict[str, str]:
    """What compiling for the ESP32-S3's core lacks: thing -> Debian package."""
    missing = {}
    if xtensa_llvm() is None:
        missing["clang for Xtensa"] = f"clang-{OLDEST_LLVM}"
        missing["llvm-mc for Xtensa"] = f"llvm-{OLDEST_LLVM}"
    if not shutil.which(XTENSA_LINKER):
        missing[XTENSA_LINKER] = "binutils-xtensa-lx106"
    return missing


def xtensa_llvm() -> int | None:
    """The newest version N >= 22 for which clang-N and llvm-mc-N are there and know Xtensa, or None."""
    names = (path.name for directory in os.get_exec_path() for path in Path(directory).glob("llvm-mc-*"))
    versions = {int(found[1]) for name in names if (found := re.fullmatch(r"llvm-mc-(\d+)", name))}
    for version in sorted(versions, reverse=True):
        if version >= OLDEST_LLVM and shutil.which(f"clang-{version}") and has_xtensa(f"llvm-mc-{version}"):
            return version
    return None


def has_xtensa(tool: str) -> bool:
    """Whether an LLVM tool was built with the Xtensa target."""
    result = subprocess.run([tool, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return re.search(r"^\s*xtensa\b", result.stdout, re.MULTILINE) is not None


def has_header(name: str, compiler: str = "gcc") -> bool:
    """Whether the compiler finds a system header; true without a compiler, which is reported by itself."""
    if not shutil.which(compiler):
        return True
    command = [compiler, "-fsyntax-only", "-xc", "-include", name, os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def install_packages(missing: dict[str, str]) -> None:
    """Install Debian packages; without the right or the means to, a Failure with the line to run."""
    if not missing:
        return
    packages = sorted(set(missing.values()))
    things = ", ".join(missing)
    if not shutil.which("apt-get"):
        names = " ".join(packages)
        raise Failure(f"missing: {things}; install what your system calls {names}, then run it again")
    if os.geteuid() != 0:
        line = shlex.join([*APT_INSTALL, *packages])
        raise Failure(f"missing: {things}; run this, then run it again: sudo {line}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = [*APT_INSTALL, "--no-install-recommends", *packages]
    with step(f"installing {' '.join(packages)}"):
        try:
            run(command, f"installing {things}", "apt-install.log", env=environment)
        except Failure:
            # A fresh machine has no package lists, and old lists name files that are gone.
            update = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"]
            run(update, f"apt-get update, to install {things},", "apt-update.log", env=environment)
            run(command, f"installing {things}", "apt-install.log", env=environment)


def python() -> Path:
    """The virtual environment's Python."""
    return VENV / "bin" / "python"


def make_venv() -> None:
    """Make the virtual environment, anew when another Python made it."""
    maker = f"{sys.version}\n{sys.base_prefix}\n"
    stamp = VENV / "made-by"
    if python().exists() and (running_inside() or (stamp.is_file() and stamp.read_text() == maker)):
        return
    # One that another tool made is kept and only added to.
    clear = ["--clear"] if stamp.exists() else []
    with step("making .venv"):
        run([sys.executable, "-m", "venv", *clear, VENV], "making the virtual environment", "venv.log")
        stamp.write_text(maker)


def running_inside() -> bool:
    """Whether this very process runs on the virtual environment's Python."""
    return Path(sys.prefix) == VENV


def requirements(group: str) -> tuple[list[str], list[str]]:
    """A group's pinned requirements from pyproject.toml: those with and those without their dependencies."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    return groups[group], groups.get(f"{group}-without-dependencies", [])


def install_group(group: str) -> None:
    """Install a group of pinned requirements, unless its stamp says that it is there."""
    usual, bare = requirements(group)
    digest = hashlib.sha256(repr((usual, bare)).encode()).hexdigest()
    stamp = VENV / f"installed-{group}"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    pip = [python(), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    with step(f"installing Python packages ({group})"):
        run([*pip, *usual], f"installing the Python packages of group {group}", f"pip-{group}.log")
        if bare:
            log = f"pip-{group}-without-dependencies.log"
            run([*pip, "--no-deps", *bare], f"installing the Python packages of group {group}", log)
        stamp.write_text(digest)


def prepare(task: str) -> None:
    """Install whatever the task (a key of GROUPS) still lacks."""
    install_packages(missing_packages(task))
    with lock("environment"):
        make_venv()
        for group in GROUPS[task]:
            install_group(group)


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Install what a recipe needs.")
    parser.add_argument("task", choices=GROUPS)
    prepare(parser.parse_args().task)


if __name__ == "__main__":
    sys.exit(main())
