# SPDX-License-Identifier: MIT
"""Random code, registers and ELF files (10,000 cases; `just lx7 fuzz` runs a million under the sanitizers)."""

import os

from host_sim.lx7 import toolchain
from host_sim.lx7.fuzz import fuzz

# Under the sanitizers (tests/sanitize.py) with other numbers, and fewer.
CASES, SEED = (2_000, 2) if "LX7_LIBRARY" in os.environ else (8_000, 1)


def test_nothing_crashes(tmp_path):
    outcomes = fuzz(CASES, SEED, toolchain.build_kernels(), tmp_path)
    assert outcomes.ended + outcomes.stopped + outcomes.refused + outcomes.loaded == CASES
    # Random programs get far, and damaged files are both refused and taken.
    assert min(outcomes.ended, outcomes.stopped, outcomes.refused, outcomes.loaded) > CASES / 500
