# SPDX-License-Identifier: MIT
"""The kernels of mpy_module/ as a shared library for this machine.

python host_sim/build.py [--sanitize]      build it, and print its path
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from host_sim.environment import BUILD, ROOT, Failure, lock, one_line_errors, run

SOURCE = ROOT / "mpy_module"
OUTPUT = BUILD / "host"
BINDING = "modternary.c"

FLAGS = ("-std=c99", "-shared", "-fPIC", "-Wall", "-Wextra")
FAST = ("-O3", "-march=native")
SANITIZE = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)


def compiler() -> str:
    """The C compiler: $CC, or the first usual name that is there."""
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if shutil.which(name):
            return name
    raise Failure("no C compiler found: install gcc, or set CC")


def sources() -> list[Path]:
    """The C files of the kernels, without MicroPython's binding."""
    return sorted(path for path in SOURCE.glob("*.c") if path.name != BINDING)


def up_to_date(library: Path) -> bool:
    """Whether the library is newer than all that it is made from."""
    inputs = [*sources(), *SOURCE.glob("*.h"), Path(__file__)]
    return library.exists() and library.stat().st_mtime > max(path.stat().st_mtime for path in inputs)


def library(sanitize: bool = False) -> Path:
    """Build the library unless it is up to date; returns its path. Several processes may call this."""
    path = OUTPUT / ("libternary-sanitized.so" if sanitize else "libternary.so")
    if up_to_date(path):
        return path
    with lock("host"):
        if not up_to_date(path):
            OUTPUT.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            start = time.time()
            command = [compiler(), *FLAGS, *(SANITIZE if sanitize else FAST), *sources(), "-o", unfinished]
            run(command, "building the kernels for this machine", f"{path.stem}.log")
            os.utime(unfinished, (start, start))  # a source changed meanwhile is newer
            os.replace(unfinished, path)
    return path


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the kernels for this machine.")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    print(library(parser.parse_args().sanitize))


if __name__ == "__main__":
    sys.exit(main())
