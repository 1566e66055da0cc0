# SPDX-License-Identifier: MIT
"""Builds C of this tree as shared libraries for this machine, here the kernels of mpy_module/.

python host_sim/build.py [--sanitize]      build them and print the library's path
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from host_sim.setup.artefact import new_file
from host_sim.setup.shell import BUILD, ROOT, Failure, lock, one_line_errors, run

SOURCE = ROOT / "mpy_module"
OUTPUT = BUILD / "host"
BINDINGS = ("modjpeg.c", "modternary.c")  # MicroPython's

FLAGS = ("-std=c99", "-shared", "-fPIC", "-Wall", "-Wextra")
PTHREAD = ("-pthread", "-DTERNARY_PARALLEL_PTHREAD")  # mpy_module/parallel.h
FAST = ("-O3", "-march=native")
SANITIZE = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)


def compiler() -> str:
    """The C compiler: $CC, or the first of cc, gcc and clang on PATH."""
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if shutil.which(name):
            return name
    raise Failure("no C compiler found: install gcc, or set CC")


@dataclass(frozen=True)
class Library:
    """Inputs of a shared library. generate: writes headers into a folder, from the files `generators`."""

    stem: str
    what: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    generate: Callable[[Path], None] | None = None
    generators: tuple[Path, ...] = ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that the library depends on."""
        return (*self.sources, *self.headers, *self.generators, Path(__file__))


def kernels() -> Library:
    """The kernels, without MicroPython's binding."""
    sources = tuple(sorted(path for path in SOURCE.glob("*.c") if path.name not in BINDINGS))
    return Library("libternary", "the kernels", sources, tuple(SOURCE.glob("*.h")), PTHREAD)


def newer(path: Path, inputs: Iterable[Path]) -> bool:
    """Whether a file is newer than all inputs; false if any of them is missing."""
    try:
        return path.stat().st_mtime > max(each.stat().st_mtime for each in inputs)
    except FileNotFoundError:
        return False


def library(made: Library | None = None, sanitize: bool = False) -> Path:
    """Build a library (None: the kernels) unless it is up to date; returns its path. Several processes may call it."""
    made = made or kernels()
    path = OUTPUT / f"{made.stem}{'-sanitized' if sanitize else ''}.so"
    if newer(path, made.inputs):
        return path
    with lock("host"):
        if not newer(path, made.inputs):
            start = time.time()
            if made.generate:
                made.generate(OUTPUT)
            flags = (*FLAGS, *made.flags, *(SANITIZE if sanitize else FAST), f"-I{OUTPUT}")
            with new_file(path) as unfinished:
                command = [compiler(), *flags, *made.sources, "-lm", "-o", unfinished]
                run(command, f"building {made.what} for this machine", f"{path.stem}.log")
                os.utime(unfinished, (start, start))  # a source changed meanwhile is newer
    return path


def sanitizer_runtime() -> Path:
    """The compiler's libasan, which must be loaded before Python."""
    command = [compiler(), "-print-file-name=libasan.so"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    if not path.is_absolute() or not path.exists():
        raise Failure("the compiler has no libasan: the sanitizers need gcc (set CC=gcc)")
    return path.resolve()


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the kernels as a shared library for this machine.")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    print(library(sanitize=parser.parse_args().sanitize))


if __name__ == "__main__":
    sys.exit(main())
