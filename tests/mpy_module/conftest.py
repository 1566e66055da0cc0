# SPDX-License-Identifier: MIT
"""Targets of the kernels' tests: modules with `pytestmark = on_every_target` run each test twice, on this machine
(reference backend) and on the simulated ESP32-S3 (PIE backend). `-m lx7` and `-m "not lx7"` select one.

`host_only(reason)` marks tests that do not apply to the simulated chip.
"""

import pytest
import ternary


@pytest.fixture(scope="session")
def chip():
    """The simulated core with the module's kernels, PIE backend."""
    from host_sim.chip.runner import Lx7Runner

    return Lx7Runner(tuple(ternary.OPERATIONS))


@pytest.fixture(params=["host", pytest.param("lx7", marks=pytest.mark.lx7)])
def target(request, monkeypatch):
    """Operations run on each target in turn; its name."""
    if request.param == "lx7":
        monkeypatch.setattr(ternary, "runner", request.getfixturevalue("chip"))
    return request.param


def pytest_collection_modifyitems(items):
    """Skip host_only tests on the chip."""
    items[:] = [item for item in items if not (item.get_closest_marker("lx7") and item.get_closest_marker("host_only"))]
