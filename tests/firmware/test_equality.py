# SPDX-License-Identifier: MIT
"""One set of logits: host simulator, oracle, and MicroPython on the virtual board, bit for bit."""

import json

import ftervit
import numpy as np
import pytest

from tests import oracle
from tests.conftest import ROOT
from tests.tiny import images
from trainer.data import load_fashion_mnist

COUNT = 100

BOARD_SCRIPT = """
from ftervit import Image, VisionTransformer
model = VisionTransformer.load("{model}")
with open("pictures.bin", "rb") as file:
    for index in range({count}):
        picture = model.preprocess(Image(file.read({size}), {side}, {side}, {channels}))
        print("logits", [x for x in model(picture)])
"""


def host_logits(path, images):
    model = ftervit.VisionTransformer.load(str(path))
    rows = []
    for image in images:
        picture = ftervit.Image(image.tobytes(), image.shape[1], image.shape[0], image.shape[2])
        rows.append(list(model(model.preprocess(picture))))
    return np.array(rows)


def board_logits(board, path, images, folder):
    (folder / "pictures.bin").write_bytes(images.tobytes())
    _, side, _, channels = images.shape
    values = {"model": path.name, "count": len(images), "size": images[0].size, "side": side, "channels": channels}
    script = folder / "script.py"
    script.write_text(BOARD_SCRIPT.format(**values))
    board.mpremote("fs", "cp", path, folder / "pictures.bin", ":")
    result = board.mpremote("run", script)
    rows = [json.loads(line[7:]) for line in result.stdout.splitlines() if line.startswith("logits ")]
    assert len(rows) == len(images), result.stdout
    return np.array(rows)


def oracle_logits(path, images):
    tensors, metadata = oracle.load(path)
    return np.array([oracle.forward(tensors, metadata, image) for image in images])


def check_agreement(path, images, board, folder):
    """The same logits, which tell the pictures apart."""
    on_host = host_logits(path, images)
    assert np.array_equal(on_host, oracle_logits(path, images))
    assert np.array_equal(on_host, board_logits(board, path, images, folder))
    assert len(np.unique(on_host, axis=0)) > len(images) // 2


def test_the_shipped_model_agrees(shipped, board, tmp_path):
    check_agreement(shipped, load_fashion_mnist("t10k").images[:COUNT].numpy(), board, tmp_path)


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [("odd_model", 28, 1), ("stem_model", 29, 3), ("colour_model", 20, 3), ("scaled_model", 24, 1)],
)
def test_host_oracle_and_board_agree(name, side, channels, request, board, tmp_path):
    check_agreement(request.getfixturevalue(name), images(12, side, channels, seed=9).numpy(), board, tmp_path)


@pytest.mark.parametrize("name", ["odd_model", "stem_model"])
@pytest.mark.parametrize(("side", "channels"), [(5, 1), (61, 3)])
def test_pictures_of_other_sizes_agree(name, side, channels, request, board, tmp_path):
    """SPEC 3 on the way: a picture that has to be converted and resized, up and down."""
    pictures = np.random.default_rng(side).integers(0, 256, (3, side, side, channels), np.uint8)
    check_agreement(request.getfixturevalue(name), pictures, board, tmp_path)


def test_demo_images_are_the_first_of_each_class():
    test = load_fashion_mnist("t10k")
    paths = sorted((ROOT / "firmware" / "images").glob("*.pgm"))
    assert len(paths) == 10
    for index, path in enumerate(paths):
        first = int((test.targets == index).nonzero()[0, 0])
        image = ftervit.read_image(str(path))
        assert path.name.startswith(f"{index}_")
        assert bytes(image.pixels) == test.images[first].numpy().tobytes()
