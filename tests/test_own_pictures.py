# SPDX-License-Identifier: MIT
"""A maker's way: a folder of photos, trained, exported, and named by the virtual board."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import ftervit
import pytest

from tests.conftest import ROOT
from tests.photos import CLASSES, write_photos

CHANGES = (
    "data.size=32",
    "data.workers=0",
    "data.cache_gb=0",
    "data.validation=0",
    "data.scale_min=0.7",
    "model.stem=[[16,3,2,1],[32,3,2,1]]",
    "model.options={embed_dim=48,depth=1,num_heads=2,mlp_ratio=2}",
    "teacher.model.options={layers=[1,1,1,1],channels=[16,16,24,32]}",
    "teacher.training.epochs=14",
    "student.epochs=40",
    "student.full_precision_epochs=8",
    "student.learning_rate=2e-3",
    "recovery.epochs=2",
    "recovery.calibration=64",
    "compute.threads=1",
)
UNSEEN = 5  # pictures of each class


def trainer(*arguments) -> str:
    """Run a command of the trainer; returns what it printed."""
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """ftervit/, models/ and images/ as a maker would have them on a board."""
    root = tmp_path_factory.mktemp("own")
    pictures, board, unseen = root / "pictures", root / "board", root / "unseen"
    write_photos(pictures, train=40, val=6, test=UNSEEN)
    config = ROOT / "trainer" / "configs" / "from_nothing.toml"
    trainer("train", "--config", config, "--run", root / "run", f"data.path={pictures}", *CHANGES)
    for path in (board / "models", board / "images", unseen):
        path.mkdir(parents=True)
    shutil.copytree(ROOT / "firmware" / "ftervit", board / "ftervit")
    shutil.copy(root / "run" / "from_nothing.safetensors", board / "models")
    for photo in (pictures / "test").glob("*/*"):
        shutil.copy(photo, unseen / f"{photo.parent.name}-{photo.name}")
    trainer("image", *unseen.iterdir(), "--out", board / "images")
    return board


def test_the_board_names_unseen_pictures(folder, board):
    script = (ROOT / "firmware" / "classify.py").read_text()
    (folder.parent / "classify.py").write_text(script.replace("fashion_mnist.safetensors", "from_nothing.safetensors"))
    result = board.mpremote("mount", folder, "run", folder.parent / "classify.py", timeout=120)
    assert result.returncode == 0, result.stdout
    assert f"models/from_nothing.safetensors: {len(CLASSES)} classes" in result.stdout
    said = dict(re.findall(r"images/(\S+\.ppm): .*\n  (\S+)", result.stdout))
    assert len(said) == UNSEEN * len(CLASSES)

    model = ftervit.VisionTransformer.load(str(folder / "models" / "from_nothing.safetensors"))
    assert tuple(model.labels) == CLASSES
    for name, label in said.items():
        assert model.predict(ftervit.read_image(str(folder / "images" / name)))[0][0] == label
    right = sum(name.startswith(label) for name, label in said.items())
    assert right >= 0.8 * len(said), said
