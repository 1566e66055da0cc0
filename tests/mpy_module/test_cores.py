# SPDX-License-Identifier: MIT
"""Operations on two cores: the same bytes as on one core, separate scratch for each part; cores() and use().

On the simulated chip the two parts run one after the other.
"""

import os
import re

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, U8, Out, Scratch, Updated, equal, on_every_target, refused, run
from tests.mpy_module.test_attention import EXPONENTIAL, random_qkv
from tests.mpy_module.test_linear import random_layer

SANITIZED = "TERNARY_LIBRARY" in os.environ
REPEATS = 5  # a race shows only sometimes


@pytest.fixture(autouse=True)
def one_core_again():
    """Restores cores()."""
    yield
    assert ternary.cores(1) == 1


@pytest.fixture
def both(target):
    """Makes a call on one core and several times on two; checks that the results are equal."""

    def compare(call):
        assert ternary.cores(1) == 1
        expected = call()
        assert ternary.cores(2) == 2
        for _ in range(REPEATS if target == "host" else 1):
            equal(call(), expected)
        assert ternary.cores(1) == 1

    return compare


@on_every_target
@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("outputs", [1, 16, 17, 32, 33, 48, 80])
def test_linear(both, rows, outputs):
    """Fewer tiles than cores, as many, more; rows that are copied and rows that are not."""
    for inputs in (1, 33, 64):
        x, trits, *scales = random_layer(np.random.default_rng(inputs), outputs, inputs, rows)
        arguments = x, oracle.pack_weight(trits), *scales
        room = np.full((rows, outputs + 5), 77, I8)

        def whole(arguments=arguments, inputs=inputs):
            work = Scratch(ternary.linear_scratch(inputs))
            return run("linear", *arguments, Out((rows, outputs), I8), work)

        def columns(arguments=arguments, inputs=inputs, room=room):
            work = Scratch(ternary.linear_scratch(inputs))
            return run("linear_columns", arguments[0], rows, *arguments[1:], Updated(room), 3, work)

        def added(arguments=arguments, inputs=inputs):
            work, sums = Scratch(ternary.linear_scratch(inputs)), Updated(np.ones((rows, outputs), I16))
            run("linear_add", *arguments, Out((rows, outputs), I8), sums, 4, work)
            return sums.array

        both(whole)
        both(columns)
        both(added)


@on_every_target
@pytest.mark.parametrize("tokens", [1, 2, 31, 32, 33, 64, 65, 97])
def test_attention(both, tokens):
    """Blocks of 32 rows."""
    for heads, width in ((1, 16), (3, 5)):
        qkv, features = random_qkv(np.random.default_rng(tokens), tokens, heads, width), heads * width

        def call(qkv=qkv, heads=heads, width=width, features=features):
            out, work = Out((tokens, features), I8), Scratch(ternary.attention_scratch(tokens, width))
            return run("attention", qkv, tokens, heads, 5, EXPONENTIAL, 1, out, 0, work)

        both(call)


@on_every_target
@pytest.mark.parametrize("rows", [1, 2, 3, 50])
def test_layernorm(both, rows):
    rng = np.random.default_rng(rows)
    for width in (1, 17, 96):
        x, packed = rng.integers(-32768, 32768, (rows, width)).astype(I16), oracle.pack_channels(np.ones(width, int))

        def call(x=x, packed=packed, width=width):
            work = Scratch(ternary.layernorm_scratch(width))
            return run("layernorm", x, packed, packed, 20000, 2, 300, width, Out(x.shape, I8), work)

        both(call)


@on_every_target
@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 48, 49, 511, 512, 513, 10000])
def test_elements(both, count):
    """Stretches of whole vectors, the last one shorter or empty."""
    rng = np.random.default_rng(count)
    x, table = rng.integers(-128, 128, count).astype(I8), rng.permutation(256).astype(U8).view(I8)
    residual = rng.integers(-32768, 32768, count).astype(I16)
    both(lambda: run("lookup", x, table, Out((count,), I8)))
    both(lambda: run("residual_add", Updated(residual), x, 5))


@pytest.mark.parametrize("name", ["linear", "attention"])
def test_parts_have_scratch_of_their_own(name):
    """Long and repeated, so that both cores work at the same time."""
    rng = np.random.default_rng(1)
    if name == "linear":
        x, trits, *scales = random_layer(rng, 1024, 96, 20)
        arguments = x, oracle.pack_weight(trits), *scales, Out((20, 1024), I8)
        measure = ternary.linear_scratch, (96,)
    else:
        arguments = random_qkv(rng, 257, 2, 16), 257, 2, 5, EXPONENTIAL, 1, Out((257, 32), I8), 0
        measure = ternary.attention_scratch, (257, 16)
    ternary.cores(1)
    expected = run(name, *arguments, Scratch(measure[0](*measure[1])))
    ternary.cores(2)
    for _ in range(100):
        equal(run(name, *arguments, Scratch(measure[0](*measure[1]))), expected)


@on_every_target
def test_scratch_for_one_core_serves_one_core(target):
    """Nothing is written beyond it, whatever cores() says; less than for one core is refused."""
    x, trits, *scales = random_layer(np.random.default_rng(0), 17, 33, 2)
    layer = x, oracle.pack_weight(trits), *scales, Out((2, 17), I8)
    attention = random_qkv(np.random.default_rng(0), 33, 1, 16), 33, 1, 5, EXPONENTIAL, 1, Out((33, 16), I8), 0
    for name, arguments, measure in (
        ("linear", layer, lambda: ternary.linear_scratch(33)),
        ("attention", attention, lambda: ternary.attention_scratch_least(33, 16)),
    ):
        ternary.cores(1)
        one = measure()
        ternary.cores(2)
        two = measure()
        assert two > one
        match = f"{name}: scratch has {one - 1} bytes, needs at least {one}"
        refused(name, *arguments, Scratch(one - 1), match=match)
        expected = run(name, *arguments, Scratch(two))
        for size in (one, one + 1, two - 1):
            equal(run(name, *arguments, Scratch(size)), expected)
        ternary.cores(1)
        equal(run(name, *arguments, Scratch(two)), expected)


def test_cores_are_as_many_as_processors():
    most = max(2, min(64, os.cpu_count()))
    for wanted, given in ((0, 1), (2, 2), (-1, 1), (3, min(3, most)), (1, 1), (2**31 - 1, most), (-(2**31), 1)):
        assert ternary.cores(wanted) == given == ternary.cores()


def test_use_names_the_rows():
    try:
        host = ", ".join(ternary.HostRunner().backends())
        assert host.split(", ")[-1] == "reference"
        for target, backends in (("host", host), ("lx7", "pie, reference")):
            runner = ternary.use(target)
            assert runner.backends() == backends.split(", ")
            assert ternary.use("reference") is runner
            with pytest.raises(ValueError, match=re.escape(f"use: name is not one of {backends}, host, lx7")):
                ternary.use("nonsense")
    finally:
        ternary.use("host").use_backend(0)


def test_use_changes_the_backend_of_the_chip():
    """Fewer instructions for the same bytes."""
    x, outs, instructions = bytes(range(256)) * 16, [], []
    try:
        runner = ternary.use("lx7")
        for backend in ("reference", "pie", "reference"):
            ternary.use(backend)
            before, out = runner.machine.totals.instructions, bytearray(4096)
            ternary.lookup(x, bytes(range(256)), out)
            outs.append(bytes(out))
            instructions.append(runner.machine.totals.instructions - before)
    finally:
        ternary.use("host")
    assert outs[0] == outs[1] == outs[2]
    assert 3 * instructions[1] < instructions[0] == instructions[2]


BOARD = """
import ternary
from ftervit import VisionTransformer, read_image
print(ternary.cores(), ternary.linear_scratch(96))
logits = []
for count in (1, 2, 1, 0, 3, -5):
    print("cores", ternary.cores(count), ternary.cores())
    if count > 0:
        model = VisionTransformer.load("models/fashion_mnist.safetensors")
        picture = model.preprocess(read_image("images/8_bag.pgm"))
        logits.append(list(model(picture)))
ternary.cores(2)
print("two", ternary.linear_scratch(96))
logits.append(list(model(picture)))
ternary.cores(1)
logits.append(list(model(picture)))
ternary.use("reference")
logits.append(list(model(picture)))
print(all(l == logits[0] for l in logits), len(logits), len(logits[0]))
try:
    ternary.use("nonsense")
except ValueError as error:
    print("ValueError", error)
"""


@pytest.mark.skipif(SANITIZED, reason="MicroPython is not built with sanitizers")
def test_on_a_board(request):
    """A whole model, loaded with one core and used with two, and the other way round."""
    one = ternary.linear_scratch(96)
    ternary.cores(2)
    two = ternary.linear_scratch(96)
    result = request.getfixturevalue("board").mpremote("exec", BOARD)
    assert result.returncode == 0, result.stdout
    *lines, wrong_use = result.stdout.splitlines()
    cores = [f"cores {n} {n}" for n in (1, 2, 1, 1, 2, 1)]
    assert lines == [f"1 {one}", *cores, f"two {two}", "True 7 10"]
    names = ", ".join(ternary.HostRunner().backends())
    assert wrong_use == f"ValueError use: name is not one of {names}"
