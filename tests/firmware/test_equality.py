# SPDX-License-Identifier: MIT
"""One set of logits: host simulator, oracle, and MicroPython on the virtual board, bit for bit."""

import json

import ftervit
import numpy as np
import pytest

from tests import oracle
from tests.conftest import ROOT
from tests.tiny import pictures
from trainer.data import load_fashion_mnist

COUNT = 100

BOARD_SCRIPT = """
from ftervit import Image, VisionTransformer
model = VisionTransformer.load("{model}")
with open("pictures.bin", "rb") as file:
    for index in range({count}):
        picture = model.preprocess(Image(file.read({size}), {side}, {side}, 1))
        print("logits", [x for x in model(picture)])
"""


def host_logits(path, images):
    model = ftervit.VisionTransformer.load(str(path))
    rows = []
    for image in images:
        picture = ftervit.Image(image.tobytes(), image.shape[1], image.shape[0], 1)
        rows.append(list(model(model.preprocess(picture))))
    return np.array(rows)


def board_logits(board, path, images, folder):
    (folder / "pictures.bin").write_bytes(images.tobytes())
    side = images.shape[1]
    script = folder / "script.py"
    script.write_text(BOARD_SCRIPT.format(model=path.name, count=len(images), size=side * side, side=side))
    board.mpremote("fs", "cp", path, folder / "pictures.bin", ":")
    result = board.mpremote("run", script)
    rows = [json.loads(line[7:]) for line in result.stdout.splitlines() if line.startswith("logits ")]
    assert len(rows) == len(images), result.stdout
    return np.array(rows)


def oracle_logits(path, images):
    tensors, metadata = oracle.load(path)
    return np.array([oracle.forward(tensors, metadata, image[..., None]) for image in images])


@pytest.mark.parametrize("name", ["shipped", "odd_model"])
def test_host_oracle_and_board_agree(name, request, board, tmp_path):
    path = request.getfixturevalue(name)
    images = load_fashion_mnist("t10k").images[:COUNT, :, :, 0] if name == "shipped" else pictures(12, seed=9)
    on_host = host_logits(path, images.numpy())
    assert np.array_equal(on_host, oracle_logits(path, images.numpy()))
    assert np.array_equal(on_host, board_logits(board, path, images.numpy(), tmp_path))


def test_pictures_of_other_sizes_agree(shipped, board, tmp_path):
    """SPEC 3 on the way: a picture that has to be resized, up and down."""
    for side in (5, 61):
        images = np.random.default_rng(side).integers(0, 256, (3, side, side), np.uint8)
        on_host = host_logits(shipped, images)
        assert np.array_equal(on_host, oracle_logits(shipped, images))
        assert np.array_equal(on_host, board_logits(board, shipped, images, tmp_path))


def test_demo_images_are_the_first_of_each_class():
    test = load_fashion_mnist("t10k")
    paths = sorted((ROOT / "firmware" / "images").glob("*.pgm"))
    assert len(paths) == 10
    for index, path in enumerate(paths):
        first = int((test.targets == index).nonzero()[0, 0])
        image = ftervit.read_image(str(path))
        assert path.name.startswith(f"{index}_")
        assert bytes(image.pixels) == test.images[first].numpy().tobytes()
