# SPDX-License-Identifier: MIT
"""Tests under AddressSanitizer and UBSan: kernels, their binding, simulated core, chip heap, models in threads.

python -m tests.sanitize [ARGS]      build the sanitized library, see that it catches faults, run pytest ARGS
"""

import subprocess
import sys

from host_sim.lx7.library import sanitized_environment
from host_sim.setup.shell import ROOT, Failure, one_line_errors, step

TESTS = (
    "tests/mpy_module",
    "tests/firmware/test_chip_heap.py",
    "tests/firmware/test_state.py",
    "tests/host_sim/test_ternary.py",
    "tests/host_sim/lx7/test_pie.py",
    "tests/host_sim/lx7/test_fuzz.py",
    "tests/host_sim/lx7/test_preload.py",
)

# Two errors that ternary_call cannot detect, and the report of a sanitizer: a buffer shorter than stated, and
# an odd address, which bypasses the checks of ternary_call.
START = """
import sys
sys.path.insert(0, "host_sim")
import ternary
# The sanitizers do not see every store of a SIMD backend.
ternary.use("reference")
ffi, library = ternary.ffi, ternary.library
"""
BEYOND_THE_END = """
x, table, out = bytearray(16), bytearray(256), bytearray(64)
sizes = ((x, 64), (table, 256), (out, 64))
arguments = ffi.new("ternary_arg[]", [(ffi.from_buffer(b), n, 0) for b, n in sizes])
library.ternary_call(ternary.OPERATIONS["lookup"], arguments, ffi.new("ternary_error *"))
"""
ODD_ADDRESS = """
y, residual = ffi.new("char[8]"), ffi.new("char[17]")
arguments = ffi.new("ternary_arg[3]", [(residual + 1, 16, 0), (y, 8, 0), (ffi.NULL, 0, 0)])
settings = ffi.new("ternary_settings *", {"backend": library.ternary_backend_in_use(), "cores": 1})
ternary.OPERATIONS["residual_start"].call(settings, arguments, ffi.new("ternary_error *"))
"""
FAULTS = ((BEYOND_THE_END, "AddressSanitizer: heap-buffer-overflow"), (ODD_ADDRESS, "misaligned address"))


def check_that_faults_are_caught(env: dict[str, str]) -> None:
    """Fail unless each lie ends its process with the sanitizer's report."""
    for fault, report in FAULTS:
        command = [sys.executable, "-c", START + fault]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode == 0 or report not in done.stderr:
            last = (done.stderr.strip().splitlines() or ["it ended quietly"])[-1]
            raise Failure(f"the sanitizers are not at work: no '{report}' in a faulty program ({last})")


@one_line_errors
def main() -> None:
    """Command line."""
    with step("building the kernels and the simulated core with sanitizers"):
        env = sanitized_environment()
    check_that_faults_are_caught(env)
    options = ("-q", "-p", "no:cacheprovider", "-m", "not lx7")  # of simulated code they would see the simulator alone
    command = [sys.executable, "-m", "pytest", *options, *TESTS, *sys.argv[1:]]
    status = subprocess.run(command, cwd=ROOT, env=env).returncode
    if status:
        raise Failure(f"the tests under the sanitizers failed (pytest's status {status})")


if __name__ == "__main__":
    sys.exit(main())
