# SPDX-License-Identifier: MIT
"""The bindings of `ternary`: the CPython module behaves as MicroPython's."""

import contextlib
import inspect
import io
import os
import re
import runpy
import subprocess
from pathlib import Path

import numpy as np
import pytest
import ternary

from host_sim import build
from host_sim.setup.shell import Failure

SCRIPT = Path(__file__).with_name("ternary_calls.py")
SANITIZED = "TERNARY_LIBRARY" in os.environ


@pytest.fixture(scope="session")
def calls():
    """The output lines of ternary_calls.py under CPython."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(SCRIPT))
    return output.getvalue().splitlines()


def test_script_knows_every_function(calls):
    assert {line.split()[0] for line in calls} - {"arenas"} == set(ternary.__all__) - {"internal"}


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_micropython_does_the_same(calls, request):
    program = request.getfixturevalue("program")
    done = subprocess.run([program, SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    theirs = done.stdout.splitlines()
    assert [pair for pair in zip(theirs, calls, strict=False) if pair[0] != pair[1]] == []
    assert len(theirs) == len(calls)


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_micropython_has_no_room(request):
    program = request.getfixturevalue("program")
    command = [program, "-X", "heapsize=1m", "-c", "import ternary; ternary.arena(2000000)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "MemoryError: arena: no room for 2000000 bytes" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "linear with 6 arguments TypeError linear(x, weight, bias, multiplier, shift, out, scratch) "
        "takes 7 arguments, got 6",
        "linear_scratch with 0 arguments TypeError linear_scratch(in_features) takes 1 argument, got 0",
        "linear 0 empty ValueError linear: x is empty",
        "linear 0 short ValueError linear: x has 20 bytes, needs a multiple of 3",
        "linear 1 short ValueError linear: weight has 63 bytes, needs 64",
        "linear 2 moved ValueError linear: bias must lie on a multiple of 2 bytes",
        "linear 2 floats TypeError linear: bias must be a buffer of int16",
        "linear 4 full of 127 ValueError linear: shift holds 127 at index 0, needs 0..15",
        "linear 5 constant TypeError linear: out must be writable",
        "linear 5 on 0 + 4 ValueError linear: out overlaps x",
        "linear 6 short ValueError linear: scratch has 4366 bytes, needs at least 4367",
        "attention 4 full of 1 ValueError attention: table holds 1 at index 0, needs 127..127",
        "attention 5 2147483648 ValueError attention: value_gain does not fit 32 bits",
        "attention 5 1.5 TypeError attention: value_gain must be an int",
        "attention 5 16 ValueError attention: value_gain is 16, needs -1..6",
        "attention_values 0 full of 0 ValueError attention_values: weights sum to 0 in row 0, needs 1..4095",
        "convert 1 2 ValueError convert: channels is 2, needs 1 or 3",
        "patches 2 5 ValueError patches: picture has 72 bytes, needs a multiple of 30",
        "patches 4 5 ValueError patches: stride is 5, needs 1..3",
        "patches 5 3 ValueError patches: padding is 3, needs 0..2",
        "cores (None,) TypeError cores: count must be an int",
        "cores ('1',) TypeError cores: count must be an int",
        f"cores ({2**70},) ValueError cores: count does not fit 32 bits",
        "cores (1, 2) TypeError cores(count) takes 1 argument, got 2",
        "cores (0,) 1 0",
        "cores (3,) 2 0",
        "cores set 1",
        "use (3,) TypeError use: name must be a str",
        "use (b'reference',) TypeError use: name must be a str",
        "use () TypeError use(name) takes 1 argument, got 0",
        f"use ({'x' * 999!r},) ValueError use: name is not",
    ],
)
def test_message(calls, line):
    assert line in calls


def test_right_calls_are_accepted(calls):
    for name in ternary.OPERATIONS:
        assert any(re.fullmatch(rf"{name} (None|\d+) \d+", line) for line in calls), name


def test_shared_memory(calls):
    """A written buffer may share memory with no argument, except exactly with the first one if in place."""
    in_place = set()
    for line in calls:
        if found := re.match(r"(\w+) (\d) on (\d) \+ (\d) None", line):
            name, *numbers = found.groups()
            first, second, distance = map(int, numbers)
            parameters = ternary.OPERATIONS[name].parameters
            if {parameters[first].use, parameters[second].use} != {ternary.library.TERNARY_IN}:
                assert distance == 0 and 0 in (first, second), line
                in_place.add(name)
    assert in_place == {"lookup", "softmax", "normalize", "bgr888"}


def test_functions_explain_themselves():
    for name in ternary.OPERATIONS:
        function = getattr(ternary, name)
        assert function.__name__ == name
        assert function.__doc__
        assert len(inspect.signature(function).parameters) > 0


def test_strided_and_foreign_arrays_are_refused():
    table = np.zeros(256, np.int8)
    out = np.zeros(8, np.int8)
    for x in (np.zeros(16, np.int8)[::2], np.zeros(8, bool), np.zeros(8, ">i2"), np.zeros(8, np.float32)):
        with pytest.raises(TypeError, match="lookup: x must be a buffer of int8"):
            ternary.lookup(x, table, out)
    with pytest.raises(TypeError, match="residual_add: residual must be a buffer of int16"):
        ternary.residual_add(np.zeros(8, ">i2"), out, 0)


def test_numpy_integers_are_ints():
    assert ternary.linear_scratch(np.int64(16)) == ternary.linear_scratch(16) >= 320


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Failure, match="no C compiler found"):
        build.compiler()


@pytest.mark.skipif(SANITIZED, reason="compilers are slow under a sanitizer")
def test_rebuilt_only_when_a_source_is_newer(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "OUTPUT", tmp_path)
    library = build.library()
    made = library.stat().st_mtime_ns
    assert build.library().stat().st_mtime_ns == made
    os.utime(library, (1, 1))
    assert build.library().stat().st_mtime_ns >= made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libternary.so"]
