# SPDX-License-Identifier: MIT
"""A model's state: memory of its own, one picture at a time, and plans that follow the cores in use."""

import gc
import os
import random
import signal
import subprocess
import threading
import weakref

import ftervit
import numpy as np
import pytest
import ternary
from ftervit import layers

from tests.conftest import ROOT
from tests.firmware.test_layers import some_picture
from tests.tiny import images

BUSY = "^model: it is computing another picture; load one model for each thread, or take turns$"
GUARD = 512


@pytest.fixture(autouse=True)
def one_core_again():
    """Restores cores(); garbage is looked for among the test's own objects, which is far quicker."""
    gc.freeze()
    yield
    gc.unfreeze()
    ternary.cores(1)


def load(path, **limits):
    return ftervit.VisionTransformer.load(str(path), **limits)


def pictures_of(model, count):
    """Different int8 pictures."""
    pixels = images(count, model.img_size, model.in_chans).numpy()
    side = model.img_size
    return [model.preprocess(ftervit.Image(image.tobytes(), side, side, model.in_chans)) for image in pixels]


def in_threads(*functions):
    """Run functions at the same time; returns their failures."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


class Watched:
    """The module `ternary` for ftervit.layers, with the addresses of all that operations may write to."""

    def __init__(self):
        self.written = {}

    def __getattr__(self, name):
        function = getattr(ternary, name)
        if name not in ternary.OPERATIONS:
            return function

        def call(*arguments):
            for argument in arguments:
                if isinstance(argument, memoryview) and not argument.readonly and argument.nbytes:
                    address = np.frombuffer(argument, np.uint8).__array_interface__["data"][0]
                    self.written[address] = max(self.written.get(address, 0), argument.nbytes)
            return function(*arguments)

        return call


def test_models_share_no_memory(odd_model, stem_model, monkeypatch):
    """What the operations of one model write to is apart from what those of another write to."""
    models = load(odd_model), load(stem_model), load(odd_model, sram=4000)
    pictures = [bytes(some_picture(model)) for model in models]
    spans = []
    for model, picture in zip(models, pictures, strict=True):
        watched = Watched()
        monkeypatch.setattr(layers, "ternary", watched)
        kept = model(picture)
        monkeypatch.undo()
        assert watched.written and len(kept)
        spans.append(watched.written)
    for _ in range(2):
        first, second = spans[0], spans.pop()
        for begin, size in first.items():
            assert all(begin + size <= start or start + length <= begin for start, length in second.items())


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("other", ["odd_model", "stem_model"])
def test_two_models_in_two_threads(other, cores, odd_model, request):
    ternary.cores(cores)
    models = load(odd_model), load(request.getfixturevalue(other), sram=9000)
    jobs = []
    for model in models:
        pictures = pictures_of(model, 4)
        jobs.append((model, pictures, [list(model(picture)) for picture in pictures]))

    def repeat(model, pictures, expected):
        for i in range(150):
            assert list(model(pictures[i % 4])) == expected[i % 4]

    assert in_threads(*(lambda job=job: repeat(*job) for job in jobs)) == []


def test_layers_made_by_hand_have_memory_of_their_own(odd_model):
    fc1 = load(odd_model).blocks[0].mlp.fc1
    tensors = fc1.weight, fc1.bias, fc1.multiplier, fc1.shift, fc1.in_features
    one, two = ftervit.TernaryBitLinear(*tensors), ftervit.TernaryBitLinear(*tensors)
    assert one.scratch.get(100).obj is not two.scratch.get(100).obj
    x = bytes(range(33 * 7))
    expected = bytes(fc1(x))

    def repeat(layer):
        for _ in range(300):
            assert bytes(layer(x)) == expected

    assert in_threads(lambda: repeat(one), lambda: repeat(two)) == []


def test_a_model_refuses_a_second_thread(odd_model):
    """While the first computes, and not afterwards; the first is not disturbed."""
    model = load(odd_model)
    one, two = pictures_of(model, 2)
    expected = list(model(one)), list(model(two))
    act, inside, refused = model.blocks[1].mlp.act, threading.Event(), threading.Event()

    def wait(x, out):
        inside.set()
        assert refused.wait(20)
        return act(x, out)

    model.blocks[1].mlp.act = wait
    found = []
    thread = threading.Thread(target=lambda: found.append(list(model(one))))
    thread.start()
    assert inside.wait(20)
    image = ftervit.Image(bytes(28 * 28), 28, 28, 1)
    for call in (lambda: model(two), lambda: model.embed(two), lambda: model.predict(image)):
        with pytest.raises(RuntimeError, match=BUSY):
            call()
    refused.set()
    thread.join()
    assert found == [expected[0]] and list(model(two)) == expected[1]


def test_many_threads_on_one_model(odd_model):
    model = load(odd_model)
    pictures = pictures_of(model, 3)
    expected, done, refused = [list(model(picture)) for picture in pictures], [], []

    def repeat(i):
        for _ in range(100):
            try:
                assert list(model(pictures[i])) == expected[i]
                done.append(i)
            except RuntimeError:
                refused.append(i)

    assert in_threads(*(lambda i=i: repeat(i) for i in range(3))) == []
    assert done and len(done) + len(refused) == 300


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError, SystemExit])
def test_an_exception_leaves_the_model_ready(odd_model, error):
    model = load(odd_model)
    picture = some_picture(model)
    expected, norm = list(model(picture)), model.norm

    def fail(x, out):
        raise error

    for _ in range(2):
        model.norm = fail
        with pytest.raises(error):
            model(picture)
        model.norm = norm
        assert list(model(picture)) == expected


def test_a_part_that_calls_its_model_is_refused(odd_model):
    model = load(odd_model)
    picture = some_picture(model)
    expected, norm = list(model(picture)), model.norm
    model.norm = lambda x, out: model(picture)
    with pytest.raises(RuntimeError, match=BUSY):
        model(picture)
    model.norm = norm
    assert list(model(picture)) == expected


def test_ctrl_c_at_any_time_leaves_the_model_ready(odd_model):
    model = load(odd_model)
    picture, rng = some_picture(model), random.Random(7)
    expected, interrupted = list(model(picture)), 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-3))
                while True:
                    model(picture)
            except KeyboardInterrupt:
                interrupted += 1
            assert list(model(picture)) == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 300


@pytest.fixture
def guarded(monkeypatch):
    """Puts guard bytes around all memory of `arena` and `heap`; gives the live bytes and a check of the guards."""
    live = {}

    def take(make):
        def taken(size, typecode="b", *rest):
            whole = make(size + 2 * GUARD, "B", *rest)
            whole[:GUARD] = whole[GUARD + size :] = b"\xa5" * GUARD
            view = whole[GUARD : GUARD + size].cast(typecode)
            owner = view.obj
            key = id(owner)
            live[key] = size, weakref.ref(owner)
            return view

        return taken

    def check(*_):
        gc.collect()
        total = 0
        for key, (size, reference) in list(live.items()):
            owner = reference()
            if owner is None:
                del live[key]
                continue
            found = bytes(owner)
            start = found.index(b"\xa5" * GUARD)
            assert found[start + GUARD + size : start + 2 * GUARD + size] == b"\xa5" * GUARD
            total += size
        return total

    for name in ("arena", "heap"):
        monkeypatch.setattr(ternary, name, take(getattr(ternary, name)))
    return check


@pytest.mark.parametrize("limits", [{}, {"sram": 0}, {"sram": 12_000, "piece": 5000}])
@pytest.mark.parametrize("order", [(1, 2, 1), (2, 1, 2)])
@pytest.mark.parametrize("name", ["odd_model", "stem_model"])
def test_a_change_of_cores_makes_a_new_plan(name, order, limits, request, guarded):
    path = request.getfixturevalue(name)
    oracle = load(path)
    picture = bytes(some_picture(oracle))
    expected = list(oracle(picture))
    del oracle
    before = guarded()
    ternary.cores(order[0])
    model = load(path, **limits)
    found = []
    for cores in order:
        assert ternary.cores(cores) == cores
        for _ in range(2):
            assert list(model(picture)) == expected
        assert model.plan.cores == model._scratch.work.cores == cores
        if "sram" in limits:
            assert sum(model.plan.pieces) <= limits["sram"]
        assert guarded() - before == model.activation_bytes
        found.append((model.plan.scratch, model.activation_bytes, str(model.plan)))
    assert found[0] == found[2] and (found[1][0] > found[0][0]) == (order[1] > order[0])


def test_cores_set_during_a_picture(odd_model, guarded):
    """By a part, that is, between two operations: nothing is taken that lasts, and nothing is written beyond."""
    model = load(odd_model, sram=12_000)
    picture = bytes(some_picture(model))
    expected, before, calls = list(model(picture)), guarded() - model.activation_bytes, []

    def setting(norm, cores):
        def function(x, out):
            calls.append(ternary.cores(cores))
            return norm(x, out)

        return function

    parts = [(block, block.norm1, block.norm2) for block in model.blocks]
    for first, other in ((1, 2), (2, 1)):
        ternary.cores(first)
        for block, norm1, norm2 in parts:
            block.norm1, block.norm2 = setting(norm1, other), setting(norm2, other)
        calls.clear()
        assert list(model(picture)) == expected and set(calls) == {other}
        assert model.plan.cores == first and guarded() - before == model.activation_bytes


def test_cores_set_while_a_plan_is_made(odd_model, monkeypatch):
    """A plan's scratch is that of its cores."""
    from ftervit.modelfile import ModelFile
    from ftervit.plan import Plan

    sizes = ModelFile(str(odd_model)).architecture
    wanted = {}
    for cores in (1, 2):
        ternary.cores(cores)
        wanted[cores] = Plan(sizes).scratch
    assert wanted[1] < wanted[2]
    measure, times = ternary.layernorm_scratch, [0]
    for first in (1, 2):
        ternary.cores(first)
        times[0] = 1

        def changing(width, first=first):
            if times[0]:
                times[0] -= 1
                ternary.cores(3 - first)
            return measure(width)

        monkeypatch.setattr(ternary, "layernorm_scratch", changing)
        plan = Plan(sizes)
        assert (plan.cores, plan.scratch) == (3 - first, wanted[3 - first])


def test_a_plan_that_cannot_be_had_is_made_when_it_can(odd_model, monkeypatch):
    model = load(odd_model, sram=12_000)
    picture = some_picture(model)
    expected, taken = list(model(picture)), model.activation_bytes

    def no_room(*arguments):
        raise MemoryError

    ternary.cores(2)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(ternary, "arena", no_room)
            with pytest.raises(MemoryError, match=r"^activations: need \d+ "):
                model(picture)
        assert model.activation_bytes == 0
    ternary.cores(1)
    assert list(model(picture)) == expected and model.activation_bytes == taken
    ternary.cores(2)
    assert list(model(picture)) == expected and model.activation_bytes > taken


BOARD = """
import _thread, time, ternary
from ftervit import VisionTransformer, read_image
PATH, COUNT = "models/fashion_mnist.safetensors", 60
names = "images/8_bag.pgm", "images/9_ankle_boot.pgm"
models = [VisionTransformer.load(PATH), VisionTransformer.load(PATH, sram=48 * 1024)]
pictures = [model.preprocess(read_image(name)) for model, name in zip(models, names)]
expected = [list(model(picture)) for model, picture in zip(models, pictures)]
def both(first, second):
    ended, failed = [], []
    def run(function):
        try:
            function()
        except BaseException as error:
            failed.append(repr(error))
        ended.append(1)
    for function in (first, second):
        _thread.start_new_thread(run, (function,))
    while len(ended) < 2:
        time.sleep_ms(1)
    return failed
def repeat(i):
    for _ in range(COUNT):
        if list(models[i](pictures[i])) != expected[i]:
            raise ValueError("wrong")
for cores in (1, 2):
    ternary.cores(cores)
    print(cores, both(lambda: repeat(0), lambda: repeat(1)))
ternary.cores(1)
act, inside, wait = models[0].blocks[1].mlp.act, [], [1]
def slow(x, out):
    inside.append(1)
    while wait:
        time.sleep_ms(1)
    return act(x, out)
models[0].blocks[1].mlp.act = slow
def second():
    while not inside:
        time.sleep_ms(1)
    try:
        models[0](pictures[1])
    except RuntimeError as error:
        print(error)
    wait.clear()
print(both(lambda: repeat(0), second))
models[0].blocks[1].mlp.act = act
def stop(x, out):
    raise KeyboardInterrupt
norm, models[0].norm = models[0].norm, stop
try:
    models[0](pictures[0])
except KeyboardInterrupt:
    print("stopped")
models[0].norm = norm
repeat(0)
print("end")
"""


@pytest.mark.skipif("TERNARY_LIBRARY" in os.environ, reason="MicroPython is not built with sanitizers")
def test_threads_of_micropython(request, tmp_path):
    program = request.getfixturevalue("program")
    for name in ("ftervit", "models", "images"):
        (tmp_path / name).symlink_to(ROOT / "firmware" / name)
    script = tmp_path / "threads.py"
    script.write_text(BOARD)
    done = subprocess.run([program, script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    lines = ["1 []", "2 []", BUSY[1:-1], "[]", "stopped", "end"]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stdout + done.stderr
