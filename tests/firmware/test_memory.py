# SPDX-License-Identifier: MIT
"""Small heaps: a model that does not fit is refused with both numbers; inference leaks no memory; the heap of a model
read in place besides its activations."""

import re

import pytest

from host_sim.boards.client import Board
from host_sim.setup.romfs import build_image
from tests.tiny import calibrated, small
from trainer.modelfile.export import export

LOAD = "from ftervit import Image, VisionTransformer as V, read_image; model = V.load('model.safetensors')"
REPEAT = """
for _ in range(20):
    model.predict(read_image("picture.ppm"))
print("20 times")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A board's flash with a model whose stem needs 120,000 bytes for its pictures alone, and pictures."""
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 1, "mlp_ratio": 1}
    stem = ((40, 3, 1, 1), (16, 2, 2, 0))
    blueprint = small("large", img_size=48, channels=3, classes=2, stem=stem, patch=(8, 8, 0), **sizes)
    folder = tmp_path_factory.mktemp("large")
    export(calibrated(blueprint), folder / "model.safetensors")
    (folder / "picture.ppm").write_bytes(b"P6 48 48 255\n" + bytes(range(256)) * 27)
    (folder / "huge.pgm").write_bytes(b"P5 1024 768 255\n" + bytes(1024 * 768))
    return folder


def on_heap(program, files, heap, script):
    """Output of a script on a board with that heap, after loading the model."""
    with Board(program=program, flash=files, heap=heap) as board:
        return board.mpremote("exec", f"{LOAD}\n{script}").stdout


def numbers(words, output):
    """Bytes that are needed and bytes that are free."""
    found = re.search(rf"MemoryError: {words}: needs (\d+) bytes, (\d+) are free", output)
    assert found, output
    return int(found[1]), int(found[2])


def test_a_stem_that_does_not_fit_is_refused_at_load(program, files):
    needed, free = numbers("activations and picture", on_heap(program, files, "200K", REPEAT))
    assert needed > max(free, 120_000)


def test_pictures_one_after_the_other(program, files):
    """A heap with room for the buffers of one picture but not of 20."""
    assert on_heap(program, files, "800K", REPEAT).endswith("20 times\n")


def test_a_picture_that_does_not_fit_is_refused(program, files):
    needed, free = numbers(r"huge\.pgm", on_heap(program, files, "600K", "model.predict(read_image('huge.pgm'))"))
    assert needed == 1024 * 768 > free


IN_PLACE = """
import gc, sys, vfs
import ftervit.modelfile, ftervit.plan  # which else come with the first model
from ftervit import VisionTransformer
with open("rom.img", "rb") as file:
    image = file.read()
vfs.mount(vfs.VfsRom(image), "/rom")
word = 8 if sys.maxsize >> 32 else 4
def load(name):
    gc.collect()
    before = gc.mem_alloc()
    model = VisionTransformer.load("/rom/" + name)
    gc.collect()
    print(name, gc.mem_alloc() - before, model.activation_bytes, word)
    return model
"""


def in_place(board, models, script):
    """Run a script on a board that holds the models in a ROM file system; returns what it prints."""
    (board.flash / "rom.img").write_bytes(build_image(models))
    result = board.mpremote("exec", IN_PLACE + script)
    assert result.returncode == 0, result.stdout
    return result.stdout


def costs(output):
    """Name -> bytes of heap besides activations, converted to 32-bit words: the rest consists of words."""
    lines = [line.split() for line in output.splitlines()]
    return {name: (int(used) - int(activations)) * 4 // int(word) for name, used, activations, word in lines}


def test_the_shipped_model_costs_little(own_board, shipped):
    found = costs(in_place(own_board, {"shipped": shipped}, "load('shipped')\n"))
    assert 1000 < found["shipped"] <= 8 * 1024


def test_width_costs_only_activations(own_board, tmp_path):
    models = {}
    for name, width in (("warm", 48), ("narrow", 48), ("wide", 96)):
        export(calibrated(small(name, patch_size=14, embed_dim=width, depth=3, num_heads=3)), tmp_path / name)
        models[name] = tmp_path / name
    found = costs(in_place(own_board, models, "for name in ('warm', 'narrow', 'wide'): load(name)\n"))
    assert found["narrow"] > 3000
    assert abs(found["wide"] - found["narrow"]) < 512


def test_labels_take_little(own_board, tmp_path):
    models = {}
    for classes in (10, 1000):
        name = f"classes{classes}"
        export(
            calibrated(small(name, classes=classes, patch_size=14, embed_dim=16, depth=1, num_heads=1)), tmp_path / name
        )
        models[name] = tmp_path / name
    script = "load('classes10')\nmodel = load('classes1000')\nassert model.labels[999] == 'class 999', model.labels\n"
    found = costs(in_place(own_board, models, script))
    assert found["classes1000"] - found["classes10"] < 16 * 1024


def test_what_is_refused_has_taken_nothing(own_board, files):
    script = """
gc.collect()
filler = bytearray(gc.mem_free() - 130000)
before = gc.mem_free()
try:
    load("large")
except MemoryError as error:
    print(error)
    gc.collect()
    print(before - gc.mem_free())
"""
    message, lost = in_place(own_board, {"large": files / "model.safetensors"}, script).splitlines()
    needed, free = map(
        int, re.fullmatch(r"activations and picture: needs (\d+) bytes, (\d+) are free", message).groups()
    )
    assert needed > max(free, 120_000)
    assert int(lost) < 1024


def test_where_memory_is_short_patches_are_cut_in_more_passes(own_board, shipped):
    """With the same logits."""
    script = """
from ftervit import read_image
picture = read_image("images/9_ankle_boot.pgm")
model = VisionTransformer.load("/rom/shipped")
found = [(model.plan.patch_rows, list(model(model.preprocess(picture))))]
model = None
gc.collect()
filler = []
try:
    while True:
        filler.append(bytearray(2000))
except MemoryError:
    pass
while len(found) < 2:
    del filler[-2:]
    gc.collect()
    try:
        model = VisionTransformer.load("/rom/shipped")
        found.append((model.plan.patch_rows, list(model(model.preprocess(picture)))))
    except MemoryError:
        pass
assert found[0][1] == found[1][1], found
print(found[0][0], sum(found[1][0]) < sum(found[0][0]))
"""
    assert in_place(own_board, {"shipped": shipped}, script) == "[14, 2, 4, 3] True\n"


def test_scattered_memory_is_refused_with_both_numbers(own_board, shipped):
    script = """
gc.collect()
pieces = []
try:
    while True:
        pieces.append(bytearray(25000))
except MemoryError:
    pass
for i in range(0, len(pieces) - 1, 2):
    pieces[i] = None
del i
try:
    load("shipped")
except MemoryError as error:
    print(error)
"""
    *_, line = in_place(own_board, {"shipped": shipped}, script).splitlines()
    words = r"activations: need (\d+) bytes in pieces of \[.*\], (\d+) are free, but scattered"
    found = re.fullmatch(words, line)
    assert found, line
    needed, free = map(int, found.groups())
    assert needed < free
