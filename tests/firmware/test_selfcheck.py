# SPDX-License-Identifier: MIT
"""firmware/selfcheck.py: backends that agree, and a simulated chip with a known fault of an emulator."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from host_sim import build
from host_sim.lx7.library import SOURCE, core
from tests.conftest import ROOT

SCRIPT = ROOT / "firmware" / "selfcheck.py"
LIMITS = r"\bINT(8|16|32)_MIN\b"


def run(**environment):
    """Run the script on the host: (status, output, errors)."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("firmware", "host_sim"))
    variables = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=ROOT / "firmware", env=variables, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_kernels_on_the_simulated_chip():
    """The PIE kernels on lx7 give the same results as the reference."""
    status, output, errors = run()
    assert (status, errors) == (0, "")
    assert {line.partition(": ")[2] for line in output.splitlines()} == {"as reference"}
    assert output.endswith("host: as reference\nlx7: as reference\n")


@pytest.fixture(scope="module")
def faulty_core(tmp_path_factory):
    """The simulated core with espressif/qemu's issue 161: EE.VADDS and EE.VSUBS stop at -MAX instead of MIN."""
    folder = tmp_path_factory.mktemp("core")
    library = core()
    build.library(library)  # generates headers
    [lanes] = [path for path in library.sources if path.name == "pie_lanes.c"]
    lines = lanes.read_text().splitlines()
    wrong = [n for n, line in enumerate(lines) if re.search(r"lx7_clamp\(a [+-] b", line)]
    assert len(wrong) == 4
    for number in wrong:
        lines[number] = re.sub(LIMITS, r"-INT\1_MAX", lines[number])
    (folder / "pie_lanes.c").write_text("\n".join(lines) + "\n")
    sources = [folder / path.name if path == lanes else path for path in library.sources]
    command = [build.compiler(), *build.FLAGS, *library.flags, "-O1", f"-I{SOURCE}", f"-I{build.OUTPUT}", *sources]
    subprocess.run([*command, "-lm", "-o", folder / "faulty.so"], check=True)
    return folder / "faulty.so"


def test_fault_of_an_emulator(faulty_core):
    status, output, errors = run(LX7_LIBRARY=str(faulty_core))
    assert status == 1
    assert [line for line in output.splitlines() if not line.endswith(": as reference")] == ["lx7: wrong: residual_add"]
    assert errors.endswith("RuntimeError: wrong numbers from lx7: ternary.use('reference') computes right ones\n")


def test_on_a_board(board):
    result = board.mpremote("run", SCRIPT)
    assert result.returncode == 0, result.stdout
    # The board has the processor's SIMD backends, if there are any.
    rows = dict(line.split(": ") for line in result.stdout.splitlines())
    assert rows == {"reference": "the only backend"} or set(rows.values()) == {"as reference"}


def test_without_a_model(own_board):
    shutil.rmtree(own_board.flash / "models")
    result = own_board.mpremote("run", SCRIPT)
    wanted = "models/fashion_mnist.safetensors is neither here nor in /rom: deploy a model, or change MODEL"
    assert result.returncode == 1 and wanted in result.stdout
