# SPDX-License-Identifier: MIT
"""trainer.training.distill: the loss against numpy, and the teacher's table against the teacher."""

import copy
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from tests.runs import PIXELS, data, settings, tiny_recipe, tiny_student, tiny_teacher
from tests.tiny import images
from trainer.config import DistillationSettings
from trainer.data import MemoryPictures
from trainer.data.jitter import resized
from trainer.errors import TrainerError
from trainer.model.student import Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import ModelSettings
from trainer.training.checkpoint import save_weights
from trainer.training.distill import (
    DistillationTask,
    LiveTeacher,
    TeacherTable,
    similarity_loss,
    table_path,
    teacher_table,
)
from trainer.training.phases import (
    Recipe,
    calibrate_student,
    lesson,
    prepare_teacher,
    recover,
    train_student,
)
from trainer.training.restore import load_teacher


def numpy_log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def numpy_similarity(student, teacher):
    """Similarity-preserving loss (arXiv 1907.09682, equations 1 to 4) times the batch."""
    matrices = []
    for features in (student, teacher):
        products = features @ features.T
        # A picture without features is like no other.
        matrices.append(products / np.maximum(np.linalg.norm(products, axis=1, keepdims=True), 1e-12))
    batch = len(student)
    return batch * np.square(matrices[1] - matrices[0]).sum() / batch**2


def student_of(directory):
    return tiny_recipe(directory).new_student()


def test_similarity_loss_is_the_papers():
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(9, width, generator=generator, dtype=torch.float64) for width in (5, 33))
    assert similarity_loss(student, teacher).item() == pytest.approx(numpy_similarity(student.numpy(), teacher.numpy()))
    assert similarity_loss(teacher, 3 * teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("label_weight", [0.0, 0.3])
@pytest.mark.parametrize("feature_weight", [0.0, 2.0])
def test_loss_is_kl_label_and_features(tmp_path, temperature, label_weight, feature_weight):
    student, teacher = student_of(tmp_path).eval(), tiny_teacher()
    weights = DistillationSettings(temperature, label_weight, feature_weight)
    task = DistillationTask(student, LiveTeacher(teacher, feature_weight > 0), weights).train()
    student.vit.eval()  # no dropout
    pixels, labels = images(10)[1:9], torch.arange(8) % 3  # without the black one, which has no features
    loss = task(pixels, labels)["loss"].item()
    with torch.no_grad():
        vit = student.vit
        ours = vit.forward_head(vit.forward_features(PIXELS.normalize(pixels)), pre_logits=True)
        theirs, logits = teacher.features(pixels)
        found = [x.double().numpy() for x in (vit.head(ours), logits)]
    log_s, log_t = (numpy_log_softmax(x / temperature) for x in found)
    expected = temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum(1).mean()
    expected -= label_weight * numpy_log_softmax(found[0])[np.arange(8), labels.numpy()].mean()
    expected += feature_weight * numpy_similarity(ours.double().numpy(), theirs.double().numpy())
    assert loss == pytest.approx(expected, rel=1e-4)


def test_teachers_features_lead_to_its_logits_and_fusing_changes_nothing():
    torch.manual_seed(2)
    model = ModelSettings("small_resnet", {"layers": [1, 1, 1, 1], "channels": [4, 6, 8, 10]})
    teacher = Teacher(TeacherBlueprint(model, 3, PIXELS))
    teacher.train()(images(16))  # BatchNorms with statistics
    teacher.eval()
    pixels = images(5, seed=3)
    with torch.no_grad():
        expected = teacher(pixels)
        names = list(teacher.state_dict())
        teacher.freeze()
        assert teacher.fused
        assert torch.allclose(teacher(pixels), expected, atol=1e-5)
        pooled, logits = teacher.features(pixels)
        assert torch.allclose(logits, expected, atol=1e-5)
        assert pooled.shape == (5, 10)
    assert list(teacher.state_dict()) == names
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    teacher.to(torch.float64)
    assert {p.dtype for p in teacher.fused[0].parameters()} == {torch.float64}, "the fused copy follows .to()"


def test_features_train_and_recover(tmp_path):
    """Under float activations, averaged weights and integers; the student can be copied in between."""
    changes = ("distillation.feature_weight=1.0", "student.ema=0.9")
    recipe, teacher = tiny_recipe(tmp_path, *changes), tiny_teacher()
    student, progress = train_student(recipe, teacher)
    copied = copy.deepcopy(student)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), copied.parameters(), strict=True))
    calibrate_student(recipe, student)
    assert recover(recipe, teacher, student).log[0]["loss"] > 0
    assert progress.log[0]["loss"] > 0


def test_features_of_an_integer_student_are_those_of_its_last_layernorm(tmp_path):
    recipe = tiny_recipe(tmp_path)
    student = recipe.new_student()
    calibrate_student(recipe, student)
    settings = DistillationSettings(2.0, 0.0, 1.0)
    DistillationTask(student, LiveTeacher(tiny_teacher(), True), settings)
    student.train()(images(4))
    features = student.features
    assert features.shape == (4, 12)
    assert torch.equal(features.detach(), features.detach().round())
    similarity_loss(features, torch.randn(4, 7)).backward()
    assert student.vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


# The table.


def live_logits(teacher, pictures, keys):
    with torch.no_grad():
        return teacher(pictures.augmented(keys)).to(torch.float16).float()


@pytest.mark.parametrize(("shift", "mirrored"), [(0, False), (1, False), (1, True)])
def test_table_is_the_live_teacher_in_fp16(tmp_path, shift, mirrored):
    teacher, pictures = tiny_teacher(), data(70, 1, shift)
    pictures = MemoryPictures(pictures.images, pictures.targets, pictures.labels, shift, mirrored)
    table = teacher_table(tmp_path / "table.npy", teacher, pictures)
    assert isinstance(table, TeacherTable)
    stored = np.load(tmp_path / "table.npy")
    assert stored.shape == (pictures.variants, 70, 3)
    assert stored.dtype == np.float16
    keys = torch.randperm(70 * pictures.variants, generator=torch.Generator().manual_seed(0))[:50]
    table.keys = keys
    found = table(pictures.augmented(keys))
    assert found.dtype == torch.float32
    # Batches of other sizes may round the teacher's sums otherwise.
    assert torch.allclose(found, live_logits(teacher, pictures, keys), rtol=2e-3, atol=1e-4)


def test_table_has_the_keys_that_training_batches_bring(tmp_path):
    teacher, pictures = tiny_teacher(), data(70, 1)
    table = teacher_table(tmp_path / "table.npy", teacher, pictures)
    for batch in pictures.batches(16, seed=3, epoch=2):
        table.keys = batch.keys
        with torch.no_grad():
            assert torch.allclose(table(batch.images), teacher(batch.images), rtol=2e-3, atol=2e-3)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("chunks", [0, 1, 2, 7, 17])
def test_an_interrupted_table_is_resumed(tmp_path, monkeypatch, chunks):
    """2 chunks a variant, 9 variants; what a kill leaves of a variant is computed again, whole ones are not."""
    teacher, pictures = tiny_teacher(), data(70, 1)
    whole = tmp_path / "whole.npy"
    teacher_table(whole, teacher, pictures)
    forward, calls = Teacher.forward, []

    def counted(self, pixels):
        if len(calls) == chunks:
            raise Interrupted
        calls.append(len(pixels))
        return forward(self, pixels)

    path = tmp_path / "parts.npy"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Teacher, "forward", counted)
        teacher_table(path, teacher, pictures)
    assert not path.exists()
    again = []
    monkeypatch.setattr(Teacher, "forward", lambda self, pixels: (again.append(len(pixels)), forward(self, pixels))[1])
    teacher_table(path, teacher, pictures)
    assert len(again) == 2 * (9 - chunks // 2)
    assert np.array_equal(np.load(whole), np.load(path))
    assert not list(tmp_path.glob("*unfinished*")) and not list(tmp_path.glob("*empty*"))
    again.clear()
    teacher_table(path, teacher, pictures)
    assert not again, "a whole table is not computed again"


def test_a_table_killed_before_it_was_marked_empty_is_started_anew(tmp_path):
    teacher, pictures = tiny_teacher(), data(70, 1)
    np.lib.format.open_memmap(tmp_path / "table.empty.npy", "w+", np.float16, (9, 70, 3)).flush()
    teacher_table(tmp_path / "table.npy", teacher, pictures)
    assert np.load(tmp_path / "table.npy").any(2).all()


def damaged_tables(path):
    """What may stand in place of an unfinished table of shape [9, 70, 3], all of it unusable."""
    np.lib.format.open_memmap(path, "w+", np.float16, (9, 70, 3)).flush()
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"x" * len(whole)):
        path.write_bytes(content)
        yield
    for shape, kind in (((9, 70, 4), np.float16), ((9, 71, 3), np.float16), ((9, 70, 3), np.float32)):
        np.lib.format.open_memmap(path, "w+", kind, shape).flush()
        yield


def test_a_damaged_unfinished_table_is_started_anew(tmp_path):
    teacher, pictures = tiny_teacher(), data(70, 1)
    expected = teacher_table(tmp_path / "whole.npy", teacher, pictures).logits
    for _ in damaged_tables(tmp_path / "table.unfinished.npy"):
        assert np.array_equal(teacher_table(tmp_path / "table.npy", teacher, pictures).logits, expected)
        (tmp_path / "table.npy").unlink()


def test_a_row_that_is_written_in_part_is_computed_again(tmp_path):
    """A kill may come while numpy copies: the last number of a variant tells that it is whole."""
    teacher, pictures = tiny_teacher(), data(70, 1)
    part = np.lib.format.open_memmap(tmp_path / "table.unfinished.npy", "w+", np.float16, (9, 70, 3))
    part[:] = np.nan
    part[:, -1, 0] = 0
    part.flush()
    table = teacher_table(tmp_path / "table.npy", teacher, pictures)
    assert np.array_equal(table.logits, teacher_table(tmp_path / "whole.npy", teacher, pictures).logits)


def test_a_full_disk_is_an_error_before_pages_are_written(tmp_path, monkeypatch):
    """Written through a map, they would end the process by SIGBUS."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(TrainerError, match=r"table\.npy: cannot be written \(No space left"):
        teacher_table(tmp_path / "table.npy", tiny_teacher(), data(70, 1))
    assert not (tmp_path / "table.unfinished.npy").exists()
    monkeypatch.undo()
    teacher_table(tmp_path / "table.npy", tiny_teacher(), data(70, 1))


SAME_TABLE = """
import sys
from pathlib import Path
from tests.trainer.training.test_distill import data, teacher_table, tiny_teacher
teacher_table(Path(sys.argv[1]), tiny_teacher(), data(70, 1))
"""


def test_two_trainings_may_want_the_same_table(tmp_path):
    command = [sys.executable, "-c", SAME_TABLE, tmp_path / "table.npy"]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert not np.isnan(np.load(tmp_path / "table.npy")).any()


def test_tables_are_named_by_teacher_data_and_pictures(tmp_path):
    teacher, pictures = tiny_teacher(), data(70, 1)
    plain = settings().data
    paths = [table_path(tmp_path, teacher, plain, pictures)]
    assert table_path(tmp_path, tiny_teacher(), plain, data(70, 1)) == paths[0]
    paths.append(table_path(tmp_path, teacher, settings("data.shift=2").data, data(70, 1, 2)))
    paths.append(table_path(tmp_path, teacher, plain, data(69, 1)))
    paths.append(table_path(tmp_path, teacher, plain, data(70, 2)))
    other = tiny_teacher()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    paths.append(table_path(tmp_path, other, plain, pictures))
    assert len(set(paths)) == len(paths)


def test_a_run_with_the_table_starts_as_one_with_a_live_teacher(tmp_path):
    losses = []
    for table in ("true", "false"):
        directory = tmp_path / table
        directory.mkdir()
        tiny_student(directory, f"compute.table={table}", "student.epochs=2")
        rows = [json.loads(line) for line in (directory / "student.jsonl").read_text().splitlines()]
        losses.append(rows[0]["loss"])
        assert bool(list(directory.glob("tables/*.npy"))) == (table == "true")
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_features_or_no_table_keep_the_teacher_live(tmp_path):
    for change, kind in (
        ("compute.table=true", TeacherTable),
        ("compute.table=false", LiveTeacher),
        ("distillation.feature_weight=1", LiveTeacher),
    ):
        recipe = tiny_recipe(tmp_path, "compute.table=true", change)
        task = lesson(recipe, tiny_teacher(), recipe.new_student(), recipe.config.student)
        assert type(task.teacher) is kind


# Where teachers come from.


def teacher_settings(tmp_path, *changes):
    options = "teacher.model.options={layers=[1,1,1,1], channels=[4,4,4,4]}"
    return tiny_recipe(tmp_path, options, "teacher.training.epochs=1", *changes)


def test_a_saved_teacher_is_used_and_one_that_is_missing_trained(tmp_path):
    path = tmp_path / "teacher.fp16.safetensors"
    recipe = teacher_settings(tmp_path, f"teacher.checkpoint={path}")
    teacher, progress = prepare_teacher(recipe)
    assert len(progress.log) == 1
    save_weights(teacher, path, teacher.description())
    (tmp_path / "other").mkdir()
    again, none = prepare_teacher(teacher_settings(tmp_path / "other", f"teacher.checkpoint={path}"))
    assert none is None
    assert again.blueprint == teacher.blueprint
    assert torch.equal(again.net.conv1.weight, teacher.net.conv1.weight.half().float())
    assert torch.equal(load_teacher(path).freeze()(images(3)), again(images(3)))


def test_a_saved_teacher_of_other_classes_is_refused(tmp_path):
    model = ModelSettings("small_resnet", {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]})
    path = tmp_path / "teacher.safetensors"
    teacher = Teacher(TeacherBlueprint(model, 5, PIXELS))
    save_weights(teacher, path, teacher.description())
    with pytest.raises(TrainerError, match=r"teacher\.safetensors: teaches 5 classes, the data has 3"):
        prepare_teacher(teacher_settings(tmp_path, f"teacher.checkpoint={path}"))


def test_a_teacher_that_is_nowhere_is_named(tmp_path):
    recipe = teacher_settings(tmp_path, f"teacher.checkpoint={tmp_path}/none.safetensors")
    config = copy.copy(recipe.config)
    object.__setattr__(config, "teacher", type(config.teacher)(config.teacher.model, config.teacher.checkpoint))
    with pytest.raises(TrainerError, match=r"none\.safetensors: not found, and there is no \[teacher\.training\]"):
        prepare_teacher(Recipe(config, recipe.training, recipe.validation, PIXELS, tmp_path))


def test_the_students_own_model_in_full_precision_teaches(tmp_path):
    recipe = tiny_recipe(tmp_path, "teacher.model.name=same", "teacher.training.epochs=1")
    teacher, progress = prepare_teacher(recipe)
    assert type(teacher.net).__name__ == "VisionTransformer"
    assert teacher.net.embed_dim == 12
    assert len(progress.log) == 1
    assert teacher.features(images(3))[0].shape == (3, 12)


@pytest.mark.parametrize("name", ["small_resnet", "same"])
def test_a_teacher_sees_larger_pictures(tmp_path, name):
    """teacher.size: the same as a teacher without it that is given pictures of that size; saved and read again."""
    recipe = tiny_recipe(tmp_path, f"teacher.model.name={name}", "teacher.size=36", "teacher.training.epochs=1")
    teacher, _ = prepare_teacher(recipe)
    pictures = images(3)
    assert teacher.prepared(pictures).shape == (3, 1, 36, 36)
    assert torch.equal(teacher(pictures), teacher(resized(pictures, 36)))
    assert teacher.features(pictures)[1].shape == (3, recipe.classes)
    path = tmp_path / "teacher.safetensors"
    save_weights(teacher, path, teacher.description(), torch.float32)
    assert torch.equal(load_teacher(path).freeze()(pictures), teacher(pictures))


def test_the_small_resnet_has_no_pretrained_weights():
    with pytest.raises(TrainerError, match="small_resnet: small_resnet has no pretrained weights"):
        Teacher(TeacherBlueprint(ModelSettings("small_resnet", pretrained=True), 3, PIXELS))


def test_the_student_sees_smaller_pictures_than_its_teacher(tmp_path):
    """sizes: [epochs, side] in the log's order; the teacher and its table are asked about whole pictures."""
    sides, asked = [], []
    with pytest.MonkeyPatch.context() as patch:
        forward, teach = Student.forward, Teacher.forward
        patch.setattr(Student, "forward", lambda self, x: sides.append(x.shape[1]) or forward(self, x))
        patch.setattr(Teacher, "forward", lambda self, x: asked.append(x.shape[1]) or teach(self, x))
        sizes = "student.sizes=[[1,14],[2,28]]"
        tiny_student(tmp_path, sizes, "model.options={patch_size=7,embed_dim=12,depth=1,num_heads=2,mlp_ratio=2}")
    steps = len(asked) // 3
    trained = [side for index, side in enumerate(sides) if side == 14 or index < steps]
    assert trained == [14] * steps
    assert set(asked) == {28}
    assert set(sides[steps:]) == {28}


def test_the_student_sees_less_detail_than_its_teacher(tmp_path):
    """coarse: of every step's pictures the first part differs from the teacher's, in training alone."""
    seen, asked = [], []
    with pytest.MonkeyPatch.context() as patch:
        forward, teach = Student.forward, Teacher.forward
        patch.setattr(Student, "forward", lambda self, x: seen.append(x.clone()) or forward(self, x))
        patch.setattr(Teacher, "forward", lambda self, x: asked.append(x.clone()) or teach(self, x))
        tiny_student(tmp_path, "student.coarse=0.5", "student.epochs=2")
    trained = 0
    for pictures in asked:
        half = round(len(pictures) / 2)
        for other in seen:
            if other.shape == pictures.shape and torch.equal(other[half:], pictures[half:]):
                assert not torch.equal(other[:half], pictures[:half])
                trained += 1
    assert trained == len(asked), "once in each step"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("student.coarse=1.5", "coarse must be 0 to 1"),
        ("student.sizes=[[1,14]]", "sizes are of 1 epochs, epochs is 3"),
        ("student.sizes=[[3,0]]", "needs [epochs, side] of at least 1 each"),
        ("student.sizes=[[3,9999]]", "must be at most 4096"),
        ("recovery.sizes=[[1,14]]", "SPEC's integers are for one size"),
    ],
)
def test_impossible_sizes_are_refused(change, words):
    with pytest.raises(TrainerError, match=re.escape(words)):
        settings(change)
