# SPDX-License-Identifier: MIT
"""Cores and backends set by one thread while others call operations: every call computes with those that it found at
its start, and stays within its scratch."""

import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import ternary

from host_sim import build
from tests import oracle
from tests.mpy_module.kernel import I8, PLAIN, Out, Scratch, equal, run
from tests.mpy_module.test_attention import EXPONENTIAL, random_qkv
from tests.mpy_module.test_linear import random_layer

PROGRAM = Path(__file__).with_name("settings_check.c")
SANITIZED = "TERNARY_LIBRARY" in os.environ
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", *build.PTHREAD, "-DTERNARY_PIE", f"-I{build.SOURCE}")
BUILDS = {"plain": ("-O2",), "address": build.SANITIZE, "thread": None}
CALLS = {"plain": 1000, "address": 100, "thread": 10}


@pytest.mark.parametrize("name", BUILDS)
def test_threads(name, request, tmp_path):
    """linear and attention between guard bytes, with two backends that cannot share an operation."""
    flags = BUILDS[name] or request.getfixturevalue("thread_sanitizer")
    program = tmp_path / name
    sources = [path for path in sorted(build.SOURCE.glob("*.c")) if path.name not in build.BINDINGS]
    command = [build.compiler(), *STRICT, *flags, PROGRAM, *sources, "-o", program]
    made = subprocess.run(list(map(str, command)), env=PLAIN, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    env = PLAIN | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run([program, str(CALLS[name])], env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "0 refused, 0 wrong, 0 beyond\n"), done.stderr


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_python_threads(kind):
    """Scratch measured at any time, by threads that share an interpreter."""
    rng = np.random.default_rng(1)
    if kind == "linear":
        x, trits, *scales = random_layer(rng, 80, 769, 40)
        arguments, measure = (x, oracle.pack_weight(trits), *scales), lambda: ternary.linear_scratch(769)
    else:
        arguments = random_qkv(rng, 97, 2, 16), 97, 2, 5, EXPONENTIAL, 1
        measure = lambda: ternary.attention_scratch(97, 16)  # noqa: E731

    def call():
        if kind == "linear":
            return run("linear", *arguments, Out((40, 80), I8), Scratch(measure()))
        return run("attention", *arguments, Out((97, 32), I8), 0, Scratch(measure()))

    expected, done, failures = call(), threading.Event(), []

    def set_cores():
        while not done.is_set():
            for cores in (2, 1):
                ternary.cores(cores)
                ternary.use("reference")

    def call_often():
        try:
            for _ in range(200):
                equal(call(), expected)
        except BaseException as failure:
            failures.append(failure)

    setter, callers = threading.Thread(target=set_cores), [threading.Thread(target=call_often) for _ in range(3)]
    for thread in (setter, *callers):
        thread.start()
    for caller in callers:
        caller.join()
    done.set()
    setter.join()
    ternary.cores(1)
    assert failures == []


BOARD = """
import _thread, ternary, time
K, N, ROWS, GUARD = 769, 32, 40, 20000
x = bytes(i * 37 % 256 for i in range(ROWS * K))
weight = bytes(i * 91 % 243 for i in range(N // 16 * ((K + 4) // 5) * 16))
layer = x, weight, bytes(2 * N), b"\\x7f" * N, b"\\x02" * (N // 16)
T, D = 97, 32
qkv = bytes(i * 53 % 256 for i in range(3 * T * D))
table = bytes(127 >> i // 16 for i in range(256))
def linear(scratch):
    out = bytearray(ROWS * N)
    ternary.linear(*layer, out, scratch)
    return out
def attention(scratch):
    out = bytearray(T * D)
    ternary.attention(qkv, T, 2, 6, table, 1, out, 0, scratch)
    return out
ternary.cores(1)
measures = lambda: ternary.linear_scratch(K), lambda: ternary.attention_scratch(T, 16)
jobs = [(call, measure, call(bytearray(measure()))) for call, measure in zip((linear, attention), measures)]
running, ended, sets = True, False, 0
def set_cores():
    global ended, sets
    while running:
        for cores in (2, 1):
            ternary.cores(cores)
            ternary.use("reference")
        sets += 1
    ended = True
_thread.start_new_thread(set_cores, ())
calls = wrong = refused = beyond = 0
guard = b"\\xa5" * GUARD
begin = time.ticks_ms()
while time.ticks_diff(time.ticks_ms(), begin) < 3000:
    for call, measure, expected in jobs:
        size = measure()
        memory = bytearray(size) + guard
        try:
            wrong += call(memoryview(memory)[:size]) != expected
        except ValueError:
            refused += 1
        beyond += sum(byte != 0xa5 for byte in memory[size:]) if memory[size:] != guard else 0
        calls += 1
running = False
while not ended:
    time.sleep_ms(1)
print(calls > 100, sets > 100, wrong, refused, beyond)
"""


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_threads_of_micropython(request, tmp_path):
    script = tmp_path / "threads.py"
    script.write_text(BOARD)
    command = [request.getfixturevalue("program"), script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True True 0 0 0\n"), done.stdout + done.stderr


# A thread is in an operation on two cores, with time for it to be there, as the program ends.
ENDING = """
import _thread, ternary, time
x, table = bytes(1000000), bytes(256)
out = bytearray(len(x))
ternary.cores(2)
def call():
    while True:
        ternary.lookup(x, table, out)
_thread.start_new_thread(call, ())
time.sleep_ms(100)
print("end")
"""


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_a_board_resets_while_a_thread_computes(request):
    """Every mpremote command begins with a soft reset."""
    board = request.getfixturevalue("own_board")
    for _ in range(5):
        result = board.mpremote("exec", ENDING, timeout=30)
        assert (result.returncode, result.stdout) == (0, "end\n"), result.stdout


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_a_program_ends_while_a_thread_computes(request):
    """MicroPython cancels its threads at exit."""
    command = [request.getfixturevalue("program"), "-X", "heapsize=20m", "-c", ENDING]
    for _ in range(10):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
