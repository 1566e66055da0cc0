# SPDX-License-Identifier: MIT
"""Random code, registers and ELF files; `just lx7 fuzz` runs a million cases."""

import os

from host_sim.lx7 import toolchain
from host_sim.lx7.fuzz import fuzz

# Most of them under the sanitizers (tests/sanitize.py).
CASES, SEED = (10_000, 2) if "LX7_LIBRARY" in os.environ else (2_000, 1)


def test_nothing_crashes(tmp_path):
    outcomes = fuzz(CASES, SEED, toolchain.build_kernels(), tmp_path)
    assert outcomes.ended + outcomes.stopped + outcomes.refused + outcomes.loaded == CASES
    # Random programs run for a while, and some damaged files are refused, others accepted.
    assert outcomes.instructions > 10 * CASES
    assert min(outcomes.stopped, outcomes.refused, outcomes.loaded) > CASES / 500
