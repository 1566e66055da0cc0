# SPDX-License-Identifier: MIT
"""`just lx7`: scripts of the firmware on the simulated core, beside the core's own commands."""

import os
import subprocess
import sys

from host_sim.setup.shell import ROOT

SCRIPT = """
import sys
import ternary
stream = ternary.arena(32, "h")
ternary.residual_add(stream, bytes(range(16)), 1)
print(sys.argv[1:], list(stream))
"""


def lx7(*arguments: str, status: int = 0) -> str:
    """Output of a command, errors included."""
    command = [sys.executable, "-m", "host_sim.chip", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"})
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_a_script_runs_on_the_simulated_core(tmp_path):
    (tmp_path / "own.py").write_text(SCRIPT)
    said, _, head, operation, *_ = lx7("script", str(tmp_path / "own.py"), "--one", "two").splitlines()
    assert said == f"['--one', 'two'] {[2 * n for n in range(16)]}"
    assert head.split()[:3] == ["operation", "calls", "instructions"]
    name, calls, instructions, *_ = operation.split()
    assert (name, calls) == ("residual_add", "1") and int(instructions.replace(",", "")) > 10


def test_a_script_that_is_not_there():
    assert lx7("script", "firmware/nowhere.py", status=1) == "error: firmware/nowhere.py: no such file\n"


def test_the_recipe_has_the_commands_of_the_core():
    assert "python }} -m host_sim.chip" in (ROOT / "justfile").read_text()
    assert "ee.vmulas.s8.accx" in lx7("disasm", "host_sim/lx7/examples/dot.S", "--function", "dot")
