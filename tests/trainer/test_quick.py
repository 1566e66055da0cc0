# SPDX-License-Identifier: MIT
"""Own photos on a backbone's features: from folders as people have them to a model file that says "unknown"."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from host_sim.setup.package import import_ftervit
from tests import oracle
from tests.conftest import ROOT
from tests.photos import CLASSES, write_photos
from tests.runs import trainer
from tests.tiny import calibrated, small
from trainer.data import DataSettings, open_data
from trainer.data.opening import has_test, open_folder
from trainer.errors import TrainerError
from trainer.model.student import Student
from trainer.modelfile.evaluate import evaluate, exported_logits, open_model
from trainer.modelfile.inspect import inspect
from trainer.training.checkpoint import save_weights
from trainer.training.quick import threshold_of

SIZE = 32
BACKBONE = small(
    "backbone",
    img_size=SIZE,
    channels=3,
    classes=7,
    stem=((24, 3, 2, 1), (32, 3, 2, 1)),
    patch=(3, 2, 1),
    embed_dim=48,
    depth=1,
    num_heads=2,
    mlp_ratio=2,
)
CONFIG = ROOT / "trainer" / "configs" / "my_pictures.toml"
CHANGES = (
    f"data.size={SIZE}",
    "data.workers=0",
    "data.cache_gb=0",
    "data.validation=8",
    "model.stem=[[24,3,2,1],[32,3,2,1]]",
    "model.patch=[3,2,1]",
    "model.options={embed_dim=48,depth=1,num_heads=2,mlp_ratio=2}",
    "student.epochs=2",
    "student.batch=16",
    "student.warmup=0.3",
    "recovery.epochs=1",
    "recovery.batch=16",
    "recovery.warmup=0.3",
    "recovery.calibration=32",
    "compute.threads=1",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A stand-in for the backbone's checkpoint: random ternary weights, calibrated."""
    path = tmp_path_factory.mktemp("backbone") / "student.safetensors"
    student: Student = calibrated(BACKBONE, seed=5)
    save_weights(student, path, student.description(), torch.float32)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 photos of each of four classes, and others that no training sees."""
    root = tmp_path_factory.mktemp("photos")
    write_photos(root / "pictures", train=24)
    write_photos(root / "unseen", train=6, val=6, test=0)
    return root


def words(weights, folder, run, *changes):
    return ["--config", CONFIG, "--run", run, f"data.path={folder}", f"student.weights={weights}", *CHANGES, *changes]


@pytest.fixture(scope="module")
def quick(weights, photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("quick")
    said = trainer("train", *words(weights, photos / "pictures", run))
    return run, said


def unseen(photos) -> DataSettings:
    return DataSettings(source="folder", path=str(photos), size=SIZE, channels=3, validation=0, workers=0)


def test_the_file_names_unseen_photos_with_the_users_labels(quick, photos):
    run, said = quick
    pictures = open_folder(unseen(photos), photos / "unseen" / "val", None)
    result = evaluate(pictures, run / "my_pictures.safetensors")
    assert tuple(result.labels) == CLASSES
    assert result.exported_top1 >= 80, "of random features; by chance 25"
    record = json.loads((run / "record.json").read_text())
    assert record["pictures"] == dict.fromkeys(CLASSES, 24)
    assert "test_top1" not in record
    assert "test top-1" not in said
    assert f"validation top-1 {record['validation_top1']:.2f} % (left out one by one)" in said
    found = inspect(run / "my_pictures.safetensors")
    assert (found.version, found.unternary, found.refused) == ("3", ["head.weight"], "")
    assert found.architecture["pool"] == "token+mean"


def test_left_out_scores_are_the_files_logits(quick, photos):
    """The oracle computes the logits of a taught photo; the closed form left it out, so they differ but a little."""
    run, _ = quick
    pictures = open_folder(unseen(photos), photos / "pictures", None).subset(0, 3)
    model = open_model(run / "my_pictures.safetensors")
    found = exported_logits(model, pictures, label="")
    tensors, metadata = oracle.load(run / "my_pictures.safetensors")
    for batch in pictures.ordered(3):
        for picture, logits in zip(batch.images.numpy(), found, strict=True):
            assert np.array_equal(oracle.forward(tensors, metadata, picture), logits)


def test_the_threshold_keeps_photos_and_can_be_overridden(quick, photos):
    run, _ = quick
    record = json.loads((run / "record.json").read_text())
    assert record["known_kept"] >= 97
    model = open_model(run / "my_pictures.safetensors")
    assert model.threshold == record["threshold"]
    ftervit = import_ftervit()
    noise = np.random.default_rng(1).integers(0, 256, (40, SIZE, SIZE, 3)).astype(np.uint8)
    pictures = [ftervit.Image(pixels.tobytes(), SIZE, SIZE, 3) for pixels in noise]
    model.threshold = 2**31 - 1
    assert [model.predict(picture)[0][0] for picture in pictures] == ["unknown"] * 40
    model.threshold = -(2**31)
    assert "unknown" not in [model.predict(picture)[0][0] for picture in pictures]


@pytest.mark.parametrize(("kept", "expected"), [(1.0, 1), (0.9, 2), (0.75, 3), (0.5, 6)])
def test_a_threshold_keeps_at_least_its_part(kept, expected):
    best = np.array([5, 3, 9, 1, 7, 2, 10, 8, 4, 6])
    assert threshold_of(best, kept) == expected
    assert (best >= expected).mean() >= kept


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "Testing"), ("train", "validation")])
def test_parts_are_recognised_and_reported(names, weights, photos, tmp_path):
    """Figures of a fit to train/ alone; a test part is looked at, a validation part chooses the threshold."""
    folder = tmp_path / "set"
    for name, source in zip(names, ("pictures", "unseen/train", "unseen/val"), strict=False):
        shutil.copytree(photos / source, folder / name)
    said = trainer("train", *words(weights, folder, tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["pictures"] == dict.fromkeys(CLASSES, 24)
    assert ("test_top1" in record) == ("test top-1" in said) == (len(names) == 3)
    assert "(validation part)" in said
    settings = DataSettings(source="folder", path=str(folder), size=SIZE, channels=3, validation=0, workers=0)
    assert has_test(settings) == (len(names) == 3)
    assert has_test(replace(settings, validation=5)), "with photos held out of train/, val/ is a test"
    pictures = open_folder(settings, folder / names[-1], None)
    measured = evaluate(pictures, tmp_path / "run" / "my_pictures.safetensors").exported_top1
    assert measured == record["test_top1" if len(names) == 3 else "validation_top1"]
    output = tmp_path / "eval.json"
    model = tmp_path / "run" / "my_pictures.safetensors"
    options = ["--config", CONFIG, "--output", output, "--no-modelled"]
    trainer("evaluate", model, *options, *words(weights, folder, "", "data.validation=0")[4:])
    assert json.loads(output.read_text())["part"] == ("test" if len(names) == 3 else "validation")


def test_a_run_says_what_changed_and_begins_anew(weights, photos, tmp_path):
    folder, run = tmp_path / "set", tmp_path / "run"
    shutil.copytree(photos / "pictures", folder)
    assert "have changed" not in trainer("train", *words(weights, folder, run))
    before = (run / "my_pictures.safetensors").read_bytes()
    assert "have changed" not in trainer("train", *words(weights, folder, run))
    assert (run / "my_pictures.safetensors").read_bytes() == before
    (folder / "circle" / "0.jpg").rename(folder / "checker" / "moved.jpg")
    said = trainer("train", *words(weights, folder, run))
    assert "pictures have changed since the last run: 1 added (checker/moved.jpg); starting anew" in said
    assert "1 removed (circle/0.jpg)" in said
    assert json.loads((run / "record.json").read_text())["pictures"]["checker"] == 25


def test_what_is_wrong_with_photos_is_said_first(weights, photos, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(photos / "pictures", folder / "train")
    shutil.copytree(photos / "unseen" / "val", folder / "test")
    for file in sorted((folder / "train" / "circle").iterdir())[4:]:
        file.unlink()
    shutil.copy(folder / "train" / "checker" / "0.jpg", folder / "test" / "checker" / "again.jpg")
    shutil.copy(folder / "train" / "checker" / "0.jpg", folder / "train" / "circle" / "twice.jpg")
    (folder / "train" / "circle" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    said = trainer("train", *words(weights, folder, tmp_path / "run"))
    assert "note: very few pictures to learn from: circle (5); 10 or more" in said
    pair = "train/checker/0.jpg = train/circle/twice.jpg = test/checker/again.jpg"
    assert f"note: 1 picture is in two parts, so the figures look better than they are: {pair}" in said
    assert f"note: 1 picture is in two classes: {pair}" in said
    assert "circle/IMG_1.HEIC (" in said
    assert "pillow-heif" in said or "pillow_heif" in sys.modules
    uneven = folder / "train" / "circle"
    for file in sorted(uneven.glob("*"))[4:]:
        file.unlink()
    assert "uneven: 24 pictures of checker, 4 of circle" in trainer("train", *words(weights, folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def uneven(photos, tmp_path_factory):
    """24 photos of one class, 4 of each other."""
    folder = shutil.copytree(photos / "pictures", tmp_path_factory.mktemp("uneven") / "pictures")
    for label in CLASSES[1:]:
        for file in sorted((folder / label).iterdir())[4:]:
            file.unlink()
    return folder


def test_quick_weighs_classes_the_same_and_says_so(weights, uneven, photos, tmp_path):
    """The scores on unseen photos favour the large class only where the setting asks for it."""
    pictures = open_folder(unseen(photos), photos / "unseen" / "val", None)
    large = {}
    for balance in ("auto", "off"):
        run = tmp_path / balance
        said = trainer("train", *words(weights, uneven, run, f"data.balance={balance}"))
        note = "note: uneven: 24 pictures of checker, 4 of gradient_red; "
        done = {"auto": "classes weigh the same in training", "off": "what is rare is recognised less often"}[balance]
        assert said.count("note: uneven") == 1 and note + done in said
        record = json.loads((run / "record.json").read_text())
        found = record["classes"]["validation"]
        assert found["top1"] == record["validation_top1"]
        assert found["balanced"] == pytest.approx(np.mean(list(found["by_class"].values())), abs=0.01)
        assert f"balanced accuracy {found['balanced']:.2f} % (mean of the classes)" in said
        assert "right  taken for  checker" in said
        bias = exported_logits(open_model(run / "my_pictures.safetensors"), pictures, label="")
        scale = open_model(run / "my_pictures.safetensors").logit_frac
        scores = bias.astype(float) / 2.0**scale
        large[balance] = float(np.mean(scores[:, 0] - scores[:, 1:].mean(1)))
    assert large["off"] > large["auto"]


def test_full_draws_classes_equally_often_and_chooses_by_their_mean(weights, uneven, tmp_path):
    run = tmp_path / "full"
    changes = ("speed=full", "data.validation=9", "student.batch=6", "recovery.batch=6")
    said = trainer("train", *words(weights, uneven, run, *changes))
    assert said.count("note: uneven: ") == 1 and "classes weigh the same in training" in said
    rows = [json.loads(line) for line in (run / "student.jsonl").read_text().splitlines()]
    best = torch.load(run / "student.pt", weights_only=True)["progress"]["best"]
    assert best == max(row["validation_balanced"] for row in rows)
    assert said.count(f", balanced {rows[0]['validation_balanced']:.2f} %, ") >= 1
    record = json.loads((run / "record.json").read_text())
    assert record["configuration"]["data"]["balance"] == "on"
    found = record["classes"]["validation"]
    assert found["top1"] == round(record["validation_top1"]["checkpoint, as exported"], 2)
    assert list(found["by_class"]) == list(CLASSES)
    assert f"balanced accuracy {found['balanced']:.2f} %" in said
    # Begun with balance, it is not continued without.
    refused = trainer("train", *words(weights, uneven, run, *changes, "data.balance=off"), status=1)
    assert "data.balance was 'on', is None" in refused


def test_full_trains_the_whole_student_without_a_teacher(weights, photos, tmp_path):
    run = tmp_path / "full"
    trainer("train", *words(weights, photos / "pictures", run, "speed=full"))
    record = json.loads((run / "record.json").read_text())
    assert len(record["epochs_log"]["student"]) == 2
    assert "teacher" not in record["validation_top1"]
    assert "test_top1" not in record
    assert not (run / "teacher.fp16.safetensors").exists()
    model = open_model(run / "my_pictures.safetensors")
    assert tuple(model.labels) == CLASSES
    found = inspect(run / "my_pictures.safetensors")
    assert (found.unternary, found.version, found.threshold) == ([], "3", str(record["threshold"]))
    assert record["known_kept"] >= 97
    validation = open_data(replace(unseen(photos), path=str(photos / "pictures"), validation=8))[1]
    best = exported_logits(model, validation, label="").max(1)
    assert best.min() == model.threshold, "of eight photos 97 % are eight"
    # The same photos, relabelled: never silently mixed.
    moved = tmp_path / "set"
    shutil.copytree(photos / "pictures", moved)
    (moved / "circle").rename(moved / "ring")
    said = trainer("train", *words(weights, moved, run, "speed=full"), status=1)
    assert "made with other settings" in said or "class circle gone" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.size=40", "is for pictures of 32 x 32 x 3; set data.size=32 data.channels=3"),
        ("student.weights=nowhere.safetensors", "nowhere.safetensors: not found"),
        ("student.weights=", "[student] weights is missing, which speed = quick starts from"),
        ("speed=fast", "speed is 'fast', must be one of quick, full"),
        ("quick.pooling=max", "pooling is 'max', must be one of token, mean, token+mean"),
        ("quick.known=0", "known must be above 0 and at most 1"),
    ],
)
def test_mistakes_are_one_line(change, said, weights, photos, tmp_path):
    found = trainer("train", *words(weights, photos / "pictures", tmp_path / "run", change), status=1)
    assert said in found
    assert found.count("\n") == 1


def test_classes_are_numbered_as_people_count(tmp_path):
    for name in ("class 10", "class 2", "class 1", "Class 3"):
        (tmp_path / name).mkdir()
    from trainer.data.listing import subfolders

    assert subfolders(tmp_path) == ["Class 3", "class 1", "class 2", "class 10"]


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train/a", "val/a", "valid/a"), "val and valid are two names for the val part"),
        (("valid/a", "Test/a"), "has Test and valid, but no train/ of pictures to learn from"),
    ],
)
def test_parts_that_are_none_are_refused(folders, said, tmp_path):
    from trainer.data.listing import layout
    from trainer.errors import TrainerError

    for folder in folders:
        (tmp_path / Path(folder)).mkdir(parents=True)
    with pytest.raises(TrainerError, match=said):
        layout(tmp_path)


def test_own_pictures_measures_files_on_unseen_photos(weights, photos, tmp_path, monkeypatch):
    """The experiment's figures are those of the file that a training in another process left."""
    from trainer.experiments import own_pictures

    data = tmp_path / "cifar"
    shutil.copytree(photos / "pictures", data / "train")
    shutil.copytree(photos / "unseen" / "val", data / "test")
    monkeypatch.setattr(own_pictures, "WORK", tmp_path / "work")
    monkeypatch.setattr(own_pictures, "TASKS", (own_pictures.Task("2x20", ("checker", "circle"), 20),))
    monkeypatch.setattr(own_pictures, "UNSEEN", 6)
    output = tmp_path / "own-pictures.json"
    changes = [f"student.weights={weights}", *CHANGES]
    said = own_pictures.measure(data, output, changes, baseline=False)
    found = json.loads(output.read_text())
    work = tmp_path / "work" / "2x20"
    assert len(list((work / "pictures" / "train").glob("*/*"))) == 40
    pictures = open_folder(replace(unseen(photos), path=str(work)), work / "unseen", None)
    result = evaluate(pictures, work / "run" / "my_pictures.safetensors")
    assert (len(pictures), found["2x20_quick"]) == (12, result.exported_top1)
    assert found["2x20_quick_s"] > 0
    assert set(found) == {"2x20_quick", "2x20_quick_s", "backbone_sha256", "commit"}
    assert "of 12 unseen pictures by the exported file" in said
    monkeypatch.setattr(own_pictures, "UNSEEN", 7)
    with pytest.raises(TrainerError, match="has 6 pictures, 7 are needed"):
        own_pictures.measure(data, output, changes, baseline=False)
