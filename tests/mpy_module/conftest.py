# SPDX-License-Identifier: MIT
"""Targets of the kernels' tests: modules with `pytestmark = on_every_target` run each test twice, on this machine
(reference backend) and on the simulated ESP32-S3 (PIE backend). `-m lx7` and `-m "not lx7"` select one.

`host_only(reason)` marks tests that do not apply to the simulated chip.
"""

import subprocess

import pytest
import ternary

from host_sim import build
from tests.mpy_module.kernel import PLAIN


@pytest.fixture(scope="session")
def chip():
    """The simulated core with the module's kernels, PIE backend."""
    from host_sim.lx7_runner import Lx7Runner

    return Lx7Runner(tuple(ternary.OPERATIONS))


@pytest.fixture(params=["host", pytest.param("lx7", marks=pytest.mark.lx7)])
def target(request, monkeypatch):
    """Operations run on each target in turn; its name."""
    if request.param == "lx7":
        monkeypatch.setattr(ternary, "runner", request.getfixturevalue("chip"))
    return request.param


@pytest.fixture(scope="session")
def thread_sanitizer(tmp_path_factory):
    """Flags for ThreadSanitizer; skips where it does not work."""
    folder = tmp_path_factory.mktemp("tsan")
    source, output = folder / "tsan.c", folder / "tsan"
    source.write_text("int main(void) { return 0; }\n")
    flags = ("-fsanitize=thread", "-g", "-O1")
    done = subprocess.run([build.compiler(), *flags, source, "-o", output], env=PLAIN, capture_output=True, text=True)
    if done.returncode or subprocess.run([output], env=PLAIN, capture_output=True).returncode:
        pytest.skip(f"no ThreadSanitizer here: {(done.stderr.strip().splitlines() or ['its programs fail'])[-1]}")
    return flags


def pytest_collection_modifyitems(items):
    """Skip host_only tests on the chip."""
    items[:] = [item for item in items if not (item.get_closest_marker("lx7") and item.get_closest_marker("host_only"))]
