# SPDX-License-Identifier: MIT
"""The simulated core as a shared library for this machine; and an environment with all libraries under sanitizers."""

import os
from pathlib import Path

from host_sim import build
from host_sim.lx7.isa import TABLES, generate
from host_sim.setup.artefact import write_whole

SOURCE = Path(__file__).resolve().parent / "core"


def write_headers(folder: Path) -> None:
    """What the core's decoder needs of the table of instructions."""
    write_whole(folder / "instructions.h", generate.c_header())
    write_whole(folder / "special_registers.h", generate.special_registers())


def core() -> build.Library:
    """The simulated core."""
    sources, headers = tuple(sorted(SOURCE.glob("*.c"))), tuple(SOURCE.glob("*.h"))
    generators = (*TABLES, *TABLES[0].parent.glob("*.py"), Path(__file__))
    # Rounding modes are set while the core computes floats.
    flags = ("-frounding-math", "-ffp-contract=off")
    return build.Library("liblx7", "the simulated core", sources, headers, flags, write_headers, generators)


def sanitized_environment() -> dict[str, str]:
    """Makes Python allocate every object by malloc, and host_sim load the sanitized libraries."""
    return os.environ | {
        "ASAN_OPTIONS": "detect_leaks=0",
        "LD_PRELOAD": str(build.sanitizer_runtime()),
        "LX7_LIBRARY": str(build.library(core(), sanitize=True)),
        "PYTHONMALLOC": "malloc",
        "TERNARY_LIBRARY": str(build.library(sanitize=True)),
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
