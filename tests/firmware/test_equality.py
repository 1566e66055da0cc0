# SPDX-License-Identifier: MIT
"""Logits are equal bit for bit on the host simulator, the oracle, and MicroPython on the virtual board."""

import json
from binascii import crc32
from dataclasses import replace

import ftervit
import numpy as np
import pytest

from tests import oracle
from tests.conftest import ROOT
from tests.tiny import COLOUR, calibrated, images
from trainer.data import load_fashion_mnist
from trainer.modelfile.export import Int8Head, export

COUNT = 100
POOLINGS = ("token", "mean", "token+mean")

BOARD_SCRIPT = """
from binascii import crc32
from ftervit import Image, VisionTransformer
model = VisionTransformer.load("{model}")
with open("pictures.bin", "rb") as file:
    for index in range({count}):
        picture = model.preprocess(Image(file.read({size}), {side}, {side}, {channels}))
        print("stream", crc32(model.embed(picture)))
        print("logits", [x for x in model(picture)])
        print("features", [crc32(model.features(picture, pooling)) for pooling in {poolings}])
"""

UNKNOWN_SCRIPT = """
from ftervit import Image, VisionTransformer
model = VisionTransformer.load("own.safetensors")
with open("pictures.bin", "rb") as file:
    print([model.predict(Image(file.read({size}), 20, 20, 3))[0][0] for _ in range({count})])
"""


def on_host(path, images):
    """Residual streams before the first block, int16 [count, T, D], and logits [count, classes]."""
    model = ftervit.VisionTransformer.load(str(path))
    streams, logits = [], []
    for image in images:
        picture = model.preprocess(ftervit.Image(image.tobytes(), image.shape[1], image.shape[0], image.shape[2]))
        streams.append(np.array(model.embed(picture)).reshape(model.tokens, model.embed_dim))
        logits.append(list(model(picture)))
    return np.array(streams), np.array(logits)


def host_logits(path, images):
    """Only the logits."""
    return on_host(path, images)[1]


def on_board(board, path, images, folder):
    """The CRC-32 of each residual stream, logits, and the CRC-32 of each picture's features by pooling."""
    (folder / "pictures.bin").write_bytes(images.tobytes())
    _, side, _, channels = images.shape
    values = {"model": path.name, "count": len(images), "size": images[0].size, "side": side, "channels": channels}
    values["poolings"] = POOLINGS
    script = folder / "script.py"
    script.write_text(BOARD_SCRIPT.format(**values))
    board.mpremote("fs", "cp", path, folder / "pictures.bin", ":")
    result = board.mpremote("run", script)
    found = {"stream": [], "logits": [], "features": []}
    for line in result.stdout.splitlines():
        key, _, value = line.partition(" ")
        if key in found:
            found[key].append(json.loads(value))
    assert len(found["logits"]) == len(images), result.stdout
    return found["stream"], np.array(found["logits"]), found["features"]


def by_oracle(path, images):
    """Residual streams and logits."""
    network = oracle.Network(*oracle.load(path))
    streams = [network.embed(network.preprocess(image)) for image in images]
    return np.array(streams), np.array([network.forward(image) for image in images])


def feature_crcs(path, images):
    """The CRC-32 of the oracle's features by pooling, which the host must equal."""
    model, network, found = ftervit.VisionTransformer.load(str(path)), oracle.Network(*oracle.load(path)), []
    for image in images:
        picture = model.preprocess(ftervit.Image(image.tobytes(), image.shape[1], image.shape[0], image.shape[2]))
        expected = network.features(image)
        for pooling in POOLINGS:
            assert bytes(model.features(picture, pooling)) == expected[pooling].tobytes()
        found.append([crc32(expected[pooling].tobytes()) for pooling in POOLINGS])
    return found


def check_agreement(path, images, board, folder):
    """Check for equal streams, which differ between pictures, and equal logits."""
    streams, logits = on_host(path, images)
    assert len(np.unique(streams, axis=0)) == len(images)
    for found, expected in zip(by_oracle(path, images), (streams, logits), strict=True):
        assert np.array_equal(found, expected)
    crcs, board_logits, features = on_board(board, path, images, folder)
    assert crcs == [crc32(stream.tobytes()) for stream in streams]
    assert np.array_equal(board_logits, logits)
    assert features == feature_crcs(path, images)


def test_the_shipped_model_agrees(shipped, board, tmp_path):
    check_agreement(shipped, load_fashion_mnist("t10k").images[:COUNT].numpy(), board, tmp_path)


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [("odd_model", 28, 1), ("stem_model", 29, 3), ("colour_model", 20, 3), ("scaled_model", 24, 1)],
)
def test_host_oracle_and_board_agree(name, side, channels, request, board, tmp_path):
    check_agreement(request.getfixturevalue(name), images(12, side, channels, seed=9).numpy(), board, tmp_path)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_model_with_an_int8_head_agrees(pooling, board, tmp_path):
    """Format version 3 (SPEC 4.8, 9.8), and what predict says on the board."""
    student = calibrated(COLOUR)
    rng = np.random.default_rng(7)
    count = 24 * (1 + (pooling == "token+mean"))
    weight = rng.integers(-127, 128, (4, count)).astype(np.int8)
    multiplier, bias = (rng.integers(low, 2**20, 4).astype(np.int32) for low in (0, -(2**20)))
    head = Int8Head(("ant", "bee", "cow", "doe"), weight, multiplier, bias, 12, pooling)
    path, pictures = tmp_path / "own.safetensors", images(12, 20, 3, seed=9).numpy()
    export(student, path, head)
    logits = host_logits(path, pictures)
    threshold = int(np.sort(logits.max(1))[5])
    export(student, path, replace(head, threshold=threshold))
    check_agreement(path, pictures, board, tmp_path)
    unknown = [bool(row.max() < threshold) for row in logits]
    assert sum(unknown) == 5
    script = tmp_path / "script.py"
    script.write_text(UNKNOWN_SCRIPT.format(count=len(pictures), size=pictures[0].size))
    said = json.loads(board.mpremote("run", script).stdout.splitlines()[-1].replace("'", '"'))
    expected = [head.labels[row.argmax()] for row in logits]
    assert said == ["unknown" if other else label for label, other in zip(expected, unknown, strict=True)]


@pytest.mark.parametrize("name", ["odd_model", "stem_model"])
@pytest.mark.parametrize(("side", "channels"), [(5, 1), (61, 3)])
def test_pictures_of_other_sizes_agree(name, side, channels, request, board, tmp_path):
    """With SPEC 3: pictures that are converted and resized, up and down."""
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


def test_features_refuse(odd_model):
    model = ftervit.VisionTransformer.load(str(odd_model))
    picture = model.preprocess(ftervit.Image(bytes(28 * 28), 28, 28, 1))
    with pytest.raises(ValueError, match=r"pooling is 'max', needs one of token, mean, token\+mean"):
        model.features(picture, "max")
    with pytest.raises(ValueError, match="out has 33 bytes, needs 66"):
        model.features(picture, "token+mean", bytearray(33))
