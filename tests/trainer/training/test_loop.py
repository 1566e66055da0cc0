# SPDX-License-Identifier: MIT
"""The training loop: interrupted anywhere it ends with the same weights, and which epoch's weights are kept."""

import functools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from tests.runs import DEATHS, FOREVER, PIXELS, settings, tiny_recipe, tiny_student, tiny_teacher, weights
from trainer.data import MemoryPictures
from trainer.errors import TrainerError
from trainer.files import write_atomically
from trainer.model.confusion import Confusion
from trainer.model.predict import accuracy
from trainer.model.student import Blueprint, Student
from trainer.training.checkpoint import load_if_present, save_state
from trainer.training.loop import Trainer
from trainer.training.phases import (
    SupervisedTask,
    calibrate_student,
    prepare_teacher,
    recover,
    train_control,
    train_student,
)

EVERY_STEP = "compute.checkpoint_minutes=1e-9"
NEVER = f"compute.checkpoint_minutes={FOREVER}"
VARIANTS = {
    "plain": (),
    "averaged": ("student.ema=0.9",),
    "learned": ("ternary.rule.name=learned", "student.ema=0.9", "student.optimizer=adamw"),
    "output aware": (
        "student.start=output_aware",
        "student.ema=0.9",
        "model.stem=[[4, 3, 2, 1]]",
        "model.patch=[7, 7, 0]",
        "model.options.qkv_bias=false",
    ),
    "two cosines": ("student.ternary_learning_rate=0.002", "student.ema=0.9", "student.dampening=3.0"),
    "stem": ("model.stem=[[4, 3, 2, 1]]", "model.patch=[7, 7, 0]", "student.optimizer=sgd"),
}


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, steps):
    """Let training raise once it has made so many steps."""
    step, left = Trainer.step, [steps]

    def counted(*arguments):
        if not left[0]:
            raise Interrupted
        left[0] -= 1
        return step(*arguments)

    monkeypatch.setattr(Trainer, "step", counted)


def log_of(directory, name="student"):
    """Rows of a run's log without what differs between machines."""
    rows = [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def supervised(directory, *changes):
    """The pieces of a run without a teacher: recipe, student, task."""
    recipe = tiny_recipe(directory, *changes)
    torch.manual_seed(0)
    student = Student(Blueprint("tiny", recipe.config.model, 28, recipe.training.labels, PIXELS, recipe.config.ternary))
    return recipe, student, SupervisedTask(student, verbose=False)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_interrupted_runs_end_as_whole_ones(changes, tmp_path):
    """12 steps in pieces of 1 to 5, over the ends of epochs and the start of ternary weights."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = tiny_student(tmp_path / "whole", NEVER, *changes)
    for steps in (1, 2, 1, 4, 3):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            interrupt_after(patch, steps)
            tiny_student(tmp_path / "parts", EVERY_STEP, *changes)
    parts = tiny_student(tmp_path / "parts", EVERY_STEP, *changes)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")
    assert len(log_of(tmp_path / "whole")) == 3


def test_killed_runs_end_as_whole_ones(tmp_path):
    """SIGKILL after steps 1 to 3 of a process, then at random times, in the middle of a checkpoint or not.

    With averaged weights and learned scales, which a checkpoint must hold, too.
    """
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = tiny_student(tmp_path / "whole", NEVER, *VARIANTS["learned"])
    command = [sys.executable, "-W", "ignore", "-m", "tests.runs", "killed", tmp_path / "parts", "5", EVERY_STEP]
    result = subprocess.run([*command, *VARIANTS["learned"]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-2]) >= len(DEATHS)
    parts = torch.load(tmp_path / "parts" / "weights-0.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.values(), strict=True))
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


def test_an_interrupted_recovery_ends_as_a_whole_one(tmp_path):
    results = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        minutes = EVERY_STEP if name == "parts" else NEVER
        recipe, teacher = tiny_recipe(tmp_path / name, minutes, "recovery.epochs=2"), tiny_teacher()
        student, _ = train_student(recipe, teacher)
        for steps in (1, 4):
            if name == "parts":
                copy, _ = train_student(recipe, teacher)
                calibrate_student(recipe, copy)
                with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
                    interrupt_after(patch, steps)
                    recover(recipe, teacher, copy)
        calibrate_student(recipe, student)
        recover(recipe, teacher, student)
        results.append((weights(student), student.fracs, log_of(tmp_path / name, "recovery")))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_a_finished_run_is_not_repeated(tmp_path, monkeypatch):
    first = tiny_student(tmp_path)
    interrupt_after(monkeypatch, 0)
    assert torch.equal(weights(tiny_student(tmp_path)), weights(first))
    assert len(log_of(tmp_path)) == 3


def test_a_log_that_a_killed_run_could_not_write_is_written_by_the_next(tmp_path):
    """The last checkpoint has all epochs, the log one less."""
    tiny_student(tmp_path)
    whole = log_of(tmp_path)
    (path,) = tmp_path.rglob("student.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert len(log_of(tmp_path)) == len(whole) - 1
    tiny_student(tmp_path)
    assert log_of(tmp_path) == whole


def test_best_epoch_is_kept_and_full_precision_ones_never_are(tmp_path):
    recipe = tiny_recipe(tmp_path, "student.epochs=5", "student.full_precision_epochs=2")
    student, progress = train_student(recipe, tiny_teacher())
    rows = log_of(tmp_path)
    assert progress.best == max(row["validation_top1"] for row in rows[2:])
    assert accuracy(student, recipe.validation) == progress.best
    assert not student.vit.head.full_precision


def test_where_classes_are_drawn_equally_often_their_mean_chooses_the_epoch(tmp_path, monkeypatch):
    """Nearly all for the large class: the highest top-1, and no good."""
    lazy, honest = np.array([[90, 0, 0], [5, 0, 0], [5, 0, 0]]), np.array([[60, 20, 10], [1, 4, 0], [1, 0, 4]])
    found = iter([honest, honest, lazy])
    confusion = classmethod(lambda cls, model, pictures: Confusion(pictures.labels, next(found)))
    monkeypatch.setattr(Confusion, "of_model", confusion)
    monkeypatch.setattr(MemoryPictures, "balanced", True)
    progress = train_student(tiny_recipe(tmp_path), tiny_teacher())[1]
    rows = log_of(tmp_path)
    assert [round(row["validation_top1"]) for row in rows] == [68, 68, 90]
    assert [round(row["validation_balanced"]) for row in rows] == [76, 76, 33]
    assert progress.best == Confusion(("a", "b", "c"), honest).balanced


def test_weights_are_full_precision_until_they_are_ternary(tmp_path, monkeypatch):
    """In the model that trains and in the averaged one that is validated."""
    seen = []
    close = Trainer.close_epoch

    def look(self, eligible):
        seen.append((self.run.model.vit.head.full_precision, self.kept_model.vit.head.full_precision, eligible))
        close(self, eligible)

    monkeypatch.setattr(Trainer, "close_epoch", look)
    tiny_student(tmp_path, "student.ema=0.5", "student.full_precision_epochs=2")
    assert seen == [(True, True, False), (True, True, False), (False, False, True)]


@pytest.mark.parametrize("full_precision_epochs", [0, 2])
def test_dampening_follows_each_ternary_step(full_precision_epochs, tmp_path, monkeypatch):
    """In full, here: latent matrices are ternary after each step, but not before their time."""
    ternary = []
    step = Trainer.step

    def look(self, batch, number):
        loss = step(self, batch, number)
        weight = self.run.model.vit.head.weight
        trits, scale = self.run.model.vit.head.trits()
        ternary.append(torch.allclose(weight, trits * scale[:, None], rtol=1e-6))
        return loss

    monkeypatch.setattr(Trainer, "step", look)
    changes = (f"student.full_precision_epochs={full_precision_epochs}", "student.dampening=1e9")
    tiny_student(tmp_path, *changes)
    assert ternary == [epoch >= full_precision_epochs for epoch in range(3) for _ in range(4)]


def test_learned_scales_start_where_the_weights_are_when_they_become_ternary(tmp_path, monkeypatch):
    scales = []
    step = Trainer.step

    def look(self, batch, number):
        if self.progress.epoch == 1 and number == 0:
            for model in (self.run.model, self.kept_model):
                head = model.vit.head
                scales.append(torch.equal(head.scale, head.rule(head.weight)[1]))
        return step(self, batch, number)

    monkeypatch.setattr(Trainer, "step", look)
    tiny_student(tmp_path, "ternary.rule.name=learned", "student.ema=0.9")
    assert scales == [True, True]


def test_averaged_weights_are_those_of_the_steps(tmp_path, monkeypatch):
    """Kept weights with a decay that never warms up beyond it, against the sum written out."""
    history = []
    step = Trainer.step

    def look(self, batch, number):
        loss = step(self, batch, number)
        history.append(weights(self.run.model).double())
        return loss

    monkeypatch.setattr(Trainer, "step", look)
    recipe, student, task = supervised(
        tmp_path, "student.ema=0.5", "student.epochs=1", "student.full_precision_epochs=0"
    )
    recipe.fit("student", recipe.config.student, student, task)
    # timm: decay min(0.5, 1 - step^(-2/3)), steps counted from the second update.
    average = history[0]
    for index, current in enumerate(history):
        past = max(0, index - 1)
        decay = min(0.5, 1 - (1 + past) ** (-2 / 3)) if past else 0.0
        average = decay * average + (1 - decay) * current
    assert torch.allclose(weights(student).double(), average, atol=1e-6)


def test_the_control_never_is_ternary(tmp_path):
    student, progress = train_control(tiny_recipe(tmp_path), tiny_teacher())
    assert student.vit.head.full_precision
    assert progress.best == max(row["validation_top1"] for row in log_of(tmp_path, "control"))


def test_phases_behind_one_that_is_made_anew_are_made_anew(tmp_path):
    for name, gone in (
        ("teacher", {"control", "student", "recovery"}),
        ("student", {"recovery"}),
        ("control", set()),
        ("recovery", set()),
    ):
        recipe, student, task = supervised(tmp_path, "student.epochs=1", "student.full_precision_epochs=0")
        for other in ("teacher", "control", "student", "recovery"):
            path = tmp_path / f"{other}.pt"
            path.unlink(missing_ok=True) if other == name else path.write_bytes(b"")
        recipe.fit(name, recipe.config.student, student, task)
        left = {path.stem for path in tmp_path.glob("*.pt")}
        assert left == {"teacher", "control", "student", "recovery"} - gone


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path):
    recipe, student, task = supervised(tmp_path)
    calls = []
    forward = SupervisedTask.forward

    def spoiled(self, images, target, **seen):
        calls.append(1)
        result = forward(self, images, target)
        return result if len(calls) < 7 else {"loss": result["loss"] * float("nan")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupervisedTask, "forward", spoiled)
        with pytest.raises(TrainerError, match=r"^student: the loss is nan at epoch 2, step 3$"):
            recipe.fit("student", recipe.config.student, student, task)
    assert load_if_present(tmp_path / "student.pt")["progress"]["epoch"] == 1, "the epoch before is safe"


@pytest.mark.parametrize("change", ["student.batch=71", "student.warmup=0.001"])
def test_too_few_steps_are_refused(tmp_path, change):
    with pytest.raises(TrainerError, match=r"\[student\] \d+ steps are too few for batch \d+ and warmup"):
        tiny_student(tmp_path, change)


def test_dropout_depends_on_the_step_alone(tmp_path):
    """Whatever drew random numbers before."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one = tiny_student(tmp_path / "one")
    step = Trainer.step

    def disturbed(self, batch, number):
        torch.rand(number + 1)
        return step(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", disturbed)
        assert torch.equal(weights(tiny_student(tmp_path / "other")), weights(one))


def test_gradients_are_clipped_and_the_schedule_warms_up(tmp_path, monkeypatch):
    rates = []
    step = Trainer.step

    def look(self, batch, number):
        loss = step(self, batch, number)
        rates.append(self.optimizer.param_groups[0]["lr"])
        norm = torch.stack([p.grad.norm() for p in self.run.model.parameters() if p.grad is not None]).norm()
        assert norm <= 1e-3 * (1 + 1e-4)
        return loss

    monkeypatch.setattr(Trainer, "step", look)
    tiny_student(tmp_path, "student.clip=1e-3", "student.epochs=5")
    warmup = [0.01 * (1 / 25 + step / 4 * 24 / 25) for step in range(4)]
    cosine = [0.005 * (1 + math.cos(math.pi * step / 20)) for step in range(4, 20)]
    assert rates == pytest.approx(warmup + cosine)


@pytest.mark.parametrize("first", [2, 3])
@pytest.mark.parametrize("train", [train_student, train_control])
def test_learning_rates_start_anew_when_weights_become_ternary(train, first, tmp_path, monkeypatch):
    """Of 6 epochs with 4 steps; the control's do, too."""
    rates = []
    step = Trainer.step

    def look(self, batch, number):
        loss = step(self, batch, number)
        rates.append(self.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(Trainer, "step", look)
    changes = ("student.epochs=6", f"student.full_precision_epochs={first}", "student.ternary_learning_rate=0.002")
    train(tiny_recipe(tmp_path, *changes), tiny_teacher())
    steps, warm = 4 * first, round(4 * first * 0.2)
    warmup = [0.01 * (1 / 25 + step / warm * 24 / 25) for step in range(warm)]
    cosine = [0.005 * (1 + math.cos(math.pi * step / steps)) for step in range(warm, steps)]
    second = [0.001 * (1 + math.cos(math.pi * step / (24 - steps))) for step in range(24 - steps)]
    assert rates == pytest.approx(warmup + cosine + second)


def test_smoothing_reaches_the_teachers_loss(tmp_path):
    losses = []
    for smoothing in (0.0, 0.9):
        directory = tmp_path / str(smoothing)
        directory.mkdir()
        changes = ("teacher.training.epochs=1", f"teacher.training.smoothing={smoothing}")
        model = "teacher.model.options={layers=[1,1,1,1], channels=[4,4,4,4]}"
        prepare_teacher(tiny_recipe(directory, model, *changes))
        losses.append(log_of(directory, "teacher")[0]["loss"])
    assert losses[0] != losses[1]


# Files.


def test_a_half_written_checkpoint_never_replaces_a_good_one(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)
    with pytest.raises(Exception, match=r"pickle|lambda"):
        save_state({"epoch": lambda: None}, path)
    assert load_if_present(path) == {"epoch": 1}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainerError, match=r"state\.pt: cannot be written \(No space left on device\)$"):
        save_state({"epoch": 2}, path)
    assert load_if_present(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("command", ["checkpoint", "model file", "table"])
def test_a_file_that_does_not_fit_is_named(tmp_path, command):
    """A limit on the size of files answers as a full disk does, in the middle of a real write."""
    code = {
        "checkpoint": "save_state({'weight': torch.zeros(100_000)}, folder / 'state.pt')",
        "model file": "save_weights(torch.nn.Linear(300, 300), folder / 'x.safetensors', {'teacher': '1'})",
        "table": "teacher_table(folder / 'x.npy', None, data(70, 1, 20))",
    }[command]
    lines = (
        "import resource, sys, torch",
        "from pathlib import Path",
        "from tests.runs import data",
        "from trainer.errors import TrainerError",
        "from trainer.training.checkpoint import save_state, save_weights",
        "from trainer.training.distill import teacher_table",
        "folder = Path(sys.argv[1])",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))",
        "try:",
        f"    {code}",
        "except TrainerError as error:",
        "    print(error)",
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(lines), tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    name = {"checkpoint": "state.pt", "model file": "x.safetensors", "table": "x.npy"}[command]
    assert result.stdout == f"{tmp_path / name}: cannot be written (File too large)\n"
    assert not list(tmp_path.iterdir())


def test_a_half_written_file_beside_a_good_one_is_no_harm(tmp_path):
    """As a process killed within a write leaves it."""
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)
    (tmp_path / ".state.pt.tmp").write_bytes(path.read_bytes()[:100])
    assert load_if_present(path) == {"epoch": 1}
    save_state({"epoch": 2}, path)
    assert load_if_present(path) == {"epoch": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainerError, match=r"state\.pt: not a readable checkpoint"):
        load_if_present(path)
    save_state({"epoch": list(range(1000))}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainerError, match=r"state\.pt: not a readable checkpoint"):
        load_if_present(path)
    assert load_if_present(tmp_path / "none.pt") is None


def test_folders_are_made_for_files(tmp_path):
    write_atomically(b"text", tmp_path / "a" / "b" / "c.txt")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"text"


# Switches.


def test_amp_trains_in_bfloat16_and_recovers_in_exact_integers(tmp_path):
    recipe, teacher = tiny_recipe(tmp_path, "compute.amp=true"), tiny_teacher()
    student, _ = train_student(recipe, teacher)
    (tmp_path / "fp32").mkdir()
    exact = tiny_student(tmp_path / "fp32")
    assert not torch.equal(weights(student), weights(exact))
    calibrate_student(recipe, student)
    images = recipe.validation.images
    with torch.no_grad():
        expected = student.eval()(images)
    student.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(student(images).detach(), expected)
    recover(recipe, teacher, student)
    assert len(log_of(tmp_path, "recovery")) == 1


def test_threads_are_limited_only_while_training(tmp_path, monkeypatch):
    seen = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *a: (seen.append(torch.get_num_threads()), step(*a))[1])
    before = torch.get_num_threads()
    tiny_student(tmp_path, "compute.threads=2", "student.epochs=2")
    assert set(seen) == {2}
    assert torch.get_num_threads() == before


def test_other_settings_of_speed_are_no_other_run():
    assert settings("compute.threads=2").shaping() == settings("compute.checkpoint_minutes=3").shaping()
    assert settings("student.ema=0.5").shaping() != settings().shaping()


def test_a_checkpoint_holds_all_that_resume_takes(tmp_path):
    recipe, student, task = supervised(tmp_path, "student.ema=0.5")
    progress = recipe.fit("student", recipe.config.student, student, task)
    state = load_if_present(tmp_path / "student.pt")
    assert set(state) == {"model", "optimizer", "ema", "progress", "made_for"}
    assert state["progress"]["best"] == progress.best


def test_compiled_steps_train_as_plain_ones(tmp_path, monkeypatch):
    """torch.compile wraps what trains; checkpoints and the kept weights are the plain model's.

    Traced and differentiated as for any backend, but run by torch: generating and compiling C++ takes minutes.
    """
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    results = []
    changes = ("student.epochs=1", "student.full_precision_epochs=0", "student.optimizer=sgd", "student.warmup=0.5")
    for compiled in ("false", "true"):
        directory = tmp_path / compiled
        directory.mkdir()
        model = "model.options={patch_size=28, embed_dim=4, depth=1, num_heads=1, mlp_ratio=1}"
        results.append(tiny_student(directory, f"compute.compile={compiled}", model, *changes).state_dict())
    assert results[0].keys() == results[1].keys()
    assert all(torch.allclose(results[0][name], results[1][name], atol=1e-4) for name in results[0])
