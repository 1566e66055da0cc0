# SPDX-License-Identifier: MIT
"""Small heaps: what does not fit is refused with both numbers; inference takes no more with every picture."""

import re

import pytest

from host_sim.board import Board
from tests.tiny import calibrated, small
from trainer.export import export

LOAD = "from ftervit import Image, VisionTransformer as V, read_image; model = V.load('model.safetensors')"
REPEAT = """
for _ in range(20):
    model.predict(read_image("picture.ppm"))
print("20 times")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A board's flash with a model whose stem needs 120,000 bytes for its patches and pictures, and pictures."""
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 1, "mlp_ratio": 1}
    stem = ((16, 3, 1, 1), (16, 2, 2, 0))
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
    assert needed > 120_000 > free


def test_pictures_one_after_the_other(program, files):
    """A heap that holds one picture's buffers, and not those of 20."""
    assert on_heap(program, files, "600K", REPEAT).endswith("20 times\n")


def test_a_picture_that_does_not_fit_is_refused(program, files):
    needed, free = numbers(r"huge\.pgm", on_heap(program, files, "600K", "model.predict(read_image('huge.pgm'))"))
    assert needed == 1024 * 768 > free
