# SPDX-License-Identifier: MIT
"""C of this tree as shared libraries for this machine: the kernels of mpy_module/, and the simulated core of lx7.

python host_sim/build.py [--sanitize] [kernels|lx7]      build one, and print its path
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

from host_sim.setup.artefact import new_file, write_whole
from host_sim.setup.shell import BUILD, ROOT, Failure, lock, one_line_errors, run

SOURCE = ROOT / "mpy_module"
LX7 = ROOT / "host_sim" / "lx7" / "core"
OUTPUT = BUILD / "host"
BINDING = "modternary.c"

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
    """The C compiler: $CC, or the first usual name that is there."""
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if shutil.which(name):
            return name
    raise Failure("no C compiler found: install gcc, or set CC")


@dataclass(frozen=True)
class Library:
    """What a library is made from; generate: writes headers into a folder, from the files `generators`."""

    what: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    generate: Callable[[Path], None] | None = None
    generators: tuple[Path, ...] = ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that it depends on."""
        return (*self.sources, *self.headers, *self.generators, Path(__file__))


def kernels() -> Library:
    """The kernels, without MicroPython's binding."""
    sources = tuple(sorted(path for path in SOURCE.glob("*.c") if path.name != BINDING))
    return Library("the kernels", sources, tuple(SOURCE.glob("*.h")), PTHREAD)


def lx7_core() -> Library:
    """The simulated core, with what its decoder needs of the table of instructions."""
    from host_sim.lx7.isa import TABLES, generate

    def write_headers(folder: Path) -> None:
        write_whole(folder / "instructions.h", generate.c_header())
        write_whole(folder / "special_registers.h", generate.special_registers())

    sources, headers = tuple(sorted(LX7.glob("*.c"))), tuple(LX7.glob("*.h"))
    generators = (*TABLES, *TABLES[0].parent.glob("*.py"))
    # Rounding modes are set while the core computes floats.
    flags = ("-frounding-math", "-ffp-contract=off")
    return Library("the simulated core", sources, headers, flags, write_headers, generators)


LIBRARIES = {"kernels": ("libternary", kernels), "lx7": ("liblx7", lx7_core)}


def newer(path: Path, inputs: Iterable[Path]) -> bool:
    """Whether a file is newer than all of these; not if one of them is missing."""
    try:
        return path.stat().st_mtime > max(each.stat().st_mtime for each in inputs)
    except FileNotFoundError:
        return False


def library(sanitize: bool = False, name: str = "kernels") -> Path:
    """Build a library of LIBRARIES unless it is up to date; returns its path. Several processes may call this."""
    stem, describe = LIBRARIES[name]
    path, made = OUTPUT / f"{stem}{'-sanitized' if sanitize else ''}.so", describe()
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


def sanitized_environment() -> dict[str, str]:
    """Makes Python allocate every object by malloc, and host_sim load the sanitized libraries."""
    return os.environ | {
        "ASAN_OPTIONS": "detect_leaks=0",
        "LD_PRELOAD": str(sanitizer_runtime()),
        "LX7_LIBRARY": str(library(sanitize=True, name="lx7")),
        "PYTHONMALLOC": "malloc",
        "TERNARY_LIBRARY": str(library(sanitize=True)),
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build C of this tree as a shared library for this machine.")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("name", nargs="?", choices=LIBRARIES, default="kernels", help="which (default: %(default)s)")
    arguments = parser.parse_args()
    print(library(arguments.sanitize, arguments.name))


if __name__ == "__main__":
    sys.exit(main())
