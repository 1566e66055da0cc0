# SPDX-License-Identifier: MIT
"""trainer.experiments.teach: figures of a Learner, from a folder and a zip file with made-up pictures."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.tiny import COLOUR, calibrated
from trainer import cli
from trainer.errors import TrainerError
from trainer.experiments import teach
from trainer.modelfile.export import export


def picture(label: int, seed: int, side: int = 24) -> Image.Image:
    """A bright square on noise, whose colour and place are the class's."""
    rng = np.random.default_rng((label, seed))
    pixels = rng.integers(0, 60, (side, side, 3)).astype(np.uint8)
    pixels[label : label + 12, label : label + 12, label % 3] = 255 - 9 * label
    return Image.fromarray(pixels)


@pytest.fixture
def data(tmp_path):
    """esp32-camera as a folder, cifar-10 as a zip file."""
    for label in range(3):
        folder = tmp_path / "data" / "esp32-camera" / f"thing {label}"
        folder.mkdir(parents=True)
        for number in range(24):
            picture(label, number).save(folder / f"{number:02}.png")
    with zipfile.ZipFile(tmp_path / "data" / "cifar-10.zip", "w") as file:
        for label in range(10):
            for number in range(7):
                content = io.BytesIO()
                picture(label, 100 + number).save(content, "png")
                file.writestr(f"{'train' if number < 5 else 'test'}/class {label}/{number}.png", content.getvalue())
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "colour.safetensors"
    export(calibrated(COLOUR), path)
    return path


def test_all_figures(data, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teach, "BUILD", tmp_path)
    monkeypatch.setattr(teach, "SPLITS", 2)
    monkeypatch.setattr(teach, "SPLITS_LEFT_OUT", 3)
    monkeypatch.setattr(teach, "CIFAR_TASKS", {"cifar10_10x50": (10, 4, 1), "cifar10_5x5": (5, 3, 2)})
    monkeypatch.setattr(teach, "COST", {"pictures": 6, "classes": 3})
    output = tmp_path / "teach-bench.json"
    monkeypatch.setattr(
        "sys.argv", ["trainer", "teach-bench", str(model), f"data.path={data}", "--output", str(output)]
    )
    assert not cli.main()
    found = json.loads(output.read_text())
    assert found["esp32_camera_3x10"] > 90
    assert found["cifar10_10x50"] > 50 and found["cifar10_5x5"] > 50
    assert found["model"] == "colour.safetensors" and len(found["model_crc32"]) == 8
    for key in ("known_kept", "unknown_found"):
        assert found[key] == min(found["unknown"][task][key] for task in ("esp32_camera_20", "cifar10_50"))
        assert 0 <= found[key] <= 100
    for key in ("learn_ms", "predict_extra_ms", "network_ms"):
        assert 0 < found[key] < 100
    assert 1000 < found["heap_bytes"] < 32 * 1024 < found["heap_teaching_200_bytes"] < 200 * 1024
    assert found["file_bytes"] < found["file_with_200_pictures_bytes"] < found["file_bytes"] + 65536
    assert "esp32_camera_3x10" in capsys.readouterr().out
    assert len(list((tmp_path / "teach").glob("*.npz"))) == 2


def test_changed_pictures_and_other_methods(data, model, tmp_path, monkeypatch):
    monkeypatch.setattr(teach, "BUILD", tmp_path)
    said = []
    backbone, camera = teach.Backbone(model, "token+mean", said.append), teach.Folder(data, "esp32-camera")
    names = camera.by_class()
    every = [name for part in names.values() for name in part]
    seen = {change: backbone.features(camera, every, change) for change in teach.CHANGES}
    assert all(x.shape == (72, 48) for x in seen.values())
    assert len({x.tobytes() for x in seen.values()}) == len(teach.CHANGES)
    count = len(said)
    assert np.array_equal(backbone.features(camera, every[5:], "darker"), seen["darker"][5:]) and len(said) == count
    by_class = dict(zip(names, np.split(seen["as it is"], 3), strict=True))
    table = teach.compare(backbone, teach.camera_draws(by_class, 5, 2))
    assert table["Learner"] == 100 and table["nearest neighbour"] > 90 and len(table) == 7


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda data: (data / "cifar-10.zip").unlink(), "has neither a folder cifar-10 nor cifar-10.zip"),
        (lambda data: (data / "cifar-10.zip").write_bytes(b"no zip"), "cifar-10.zip: not a readable zip file"),
    ],
)
def test_data_that_is_missing_is_named(data, break_it, words):
    break_it(data)
    with pytest.raises(TrainerError, match=words):
        teach.Folder(data, "cifar-10")


def test_a_picture_that_cannot_be_read_is_named(data):
    (data / "esp32-camera" / "thing 0" / "00.png").write_bytes(b"broken")
    with pytest.raises(TrainerError, match=r"esp32-camera/thing 0/00\.png: not a readable picture"):
        teach.Folder(data, "esp32-camera").picture("thing 0/00.png")


def test_classes_are_needed(tmp_path):
    (tmp_path / "cifar-10").mkdir()
    with pytest.raises(TrainerError, match="cifar-10/train: needs pictures in a folder for each class"):
        teach.Folder(tmp_path, "cifar-10").by_class("train")
