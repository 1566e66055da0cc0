# SPDX-License-Identifier: MIT
"""`just lx7`: its output and error messages."""

import os
import subprocess
import sys

import pytest

from host_sim.lx7 import profile
from host_sim.lx7.machine import Machine
from host_sim.lx7.profile import FunctionProfile
from host_sim.lx7.silicon import FILLER, hardware_loop
from host_sim.setup.shell import ROOT

EXAMPLES = ["host_sim/lx7/examples/dot.c", "host_sim/lx7/examples/dot.S"]


def lx7(*arguments: str, status: int = 0) -> str:
    """Output of a command, errors included."""
    command = [sys.executable, "-m", "host_sim.lx7", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"})
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_run_prints_what_the_program_writes_and_what_it_cost():
    text = lx7("run", *EXAMPLES)
    assert text.startswith("both kernels agree with C\n")
    assert "cycles modelled" in text and "MAC/cycle" in text
    assert "split evenly over two cores" in text and "is the bound" in text
    assert "effect not checked on a chip" in text and "ee.zero.accx 2" in text


def test_profile_shows_the_stall_that_readme_speaks_of(tmp_path):
    picture = tmp_path / "picture.svg"
    text = lx7("profile", *EXAMPLES, "--function", "dot", "--function", "dot_without_stalls", "--svg", str(picture))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("dot")}
    assert float(rows["dot"][8]) == pytest.approx(3.9, abs=0.15)
    assert float(rows["dot_without_stalls"][8]) == pytest.approx(7.5, abs=0.3)
    line = next(line for line in text.splitlines() if "ee.vmulas.s8.accx q0, q1" in line)
    assert "data 64" in line and "dot.S:15" in line
    assert picture.read_text().startswith("<?xml") and "dot_without_stalls" in picture.read_text()


def test_disasm_and_trace():
    text = lx7("disasm", *EXAMPLES, "--function", "dot")
    assert "dot:" in text and "ee.vmulas.s8.accx q0, q1" in text and "dot_without" not in text
    text = lx7("trace", *EXAMPLES, "--function", "dot", "--count", "6")
    assert len(text.splitlines()) == 6
    assert "dot+0x0" in text and "entry a1, 32" in text and "q0=9ca3aab1" in text


def test_silicon_prints_the_table():
    text = lx7("silicon")
    assert "| loop of 5 instructions with a taken branch | HWMCP | 7.00 cycles/iteration | 7.00 | +0.0 % |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.c"], "error: nowhere.c: no such file"),
        (["run", "README.md"], "error: README.md: not a whole ELF file"),
        (["run", "README.md", EXAMPLES[0]], "error: give one ELF file, or sources ending in .c and .S"),
        (["run", *EXAMPLES, "--limit", "10"], "error: the program did not end within 10 instructions (see --limit)"),
        (["run", *EXAMPLES, "--line", "24"], "error: a cache of 65536 bytes in 8 ways of 24-byte lines"),
        (["profile", *EXAMPLES, "--function", "dots"], "error: --function dots: did not run"),
        (["disasm", *EXAMPLES, "--function", "dots"], "error: --function dots: not in the program"),
        (["check-toolchain", "--assembler", "no-as"], "error: no-as: not found; it comes with Espressif's tool chain"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    text = lx7(*arguments, status=1)
    assert message in text.splitlines()[-1]
    assert "Traceback" not in text


def test_a_function_without_name_has_a_profile_too():
    machine: Machine = hardware_loop([FILLER] * 4, 10)
    (found,) = profile.by_function(machine)
    assert (found.name, found.instructions) == (profile.NO_FUNCTION, 42)
    assert found.cycles == machine.totals.cycles


def test_columns_that_nobody_needs_are_left_out():
    quiet = FunctionProfile("quiet", calls=1, instructions=10)
    assert "stall" not in profile.function_table([quiet]) and "bytes" not in profile.function_table([quiet])
    assert profile.function_table([]).startswith("function")


C_ERROR = "int main(void)\n{\n    return undeclared;\n}\n"
S_ERROR = ".text\n.global f\nf:\n    entry a1, 32\n    ee.zero.nothing\n    retw.n\n"


@pytest.mark.parametrize(
    ("name", "source", "place", "message"),
    [
        ("bad.c", C_ERROR, ":3:12: ", "error: use of undeclared identifier 'undeclared'"),
        ("bad.S", S_ERROR, ":5: ", "error: unrecognized instruction mnemonic"),
        ("bad.c", "int f(void);\nint main(void) { return f(); }\n", ": ", "error: undefined reference to `f'"),
    ],
)
def test_errors_of_ones_own_sources_are_the_compilers_messages(tmp_path, name, source, place, message):
    path = tmp_path / name
    path.write_text(source)
    command = [sys.executable, "-m", "host_sim.chip", "run", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert any(f"{path}{place}" in line and message in line for line in before)
    assert last.startswith("error: ") and f"{path}{place}" in last and message in last
    assert ".log" not in done.stderr and ".loc " not in done.stderr
