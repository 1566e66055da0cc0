# SPDX-License-Identifier: MIT
"""From a configuration to a model file: teacher, student, recovery, export and a record of how they were made."""

import copy
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.config import Config
from trainer.data import open_test
from trainer.data.opening import has_test
from trainer.errors import TrainerError
from trainer.files import write_json
from trainer.integer.residual import round_embeddings
from trainer.model.confusion import Confusion, percent
from trainer.model.predict import accuracy, predictions
from trainer.model.student import FloatArithmetic, Student
from trainer.modelfile.export import export
from trainer.paths import READABLE, ROOT, Files
from trainer.training.checkpoint import brought_log, save_weights
from trainer.training.loop import Progress
from trainer.training.manifest import Beginning, file_digest
from trainer.training.phases import Recipe, calibrate_student, prepare_teacher, recover, train_control, train_student
from trainer.training.quick import threshold_of, train_quick
from trainer.training.restore import load_student

RECORDED = ("epoch", "loss", "validation_top1", "validation_balanced", "learning_rate")


def files_of(config: Config, run: Path) -> Files:
    """Files of a configuration's results: from its [output], by default in the run's folder."""
    output = config.output
    return Files(
        model=ROOT / output.model if output.model else run / f"{config.name}.safetensors",
        checkpoints=ROOT / output.checkpoints if output.checkpoints else run,
    )


def train(config: Config, run: Path, beginning: Beginning = "resume") -> Files | None:
    """Make all files of a configuration; resumes from the checkpoints in `run`. None in all processes but the first."""
    if config.speed == "quick":
        return train_quick(config, run, files_of(config, run), beginning)
    if not config.ternary.complete:
        raise TrainerError(f"{config.source}: [ternary] leaves parts in full precision: SPEC has no form for those")
    with Recipe.opened(config, run, beginning) as recipe:
        return make_model(recipe, files_of(config, run))


def make_model(recipe: Recipe, files: Files) -> Files | None:
    """`train` of an opened recipe."""
    config = recipe.config
    teacher, teacher_progress = prepare_teacher(recipe)
    student, student_progress = train_student(recipe, teacher)
    before = copy.deepcopy(student)
    before.arithmetic = FloatArithmetic(before.vit, before.pixels)
    calibrate_student(recipe, student)
    forms = accuracy_of_forms(recipe, before, student)
    recovery_progress = recover(recipe, teacher, student)
    if not recipe.processes.first:
        return None

    if teacher is not None and (teacher_progress is not None or not files.teacher.exists()):
        save_weights(teacher, files.teacher, teacher.description())
    # In fp32: latent weights gather at thresholds, and rounding to fp16 flips enough trits to cost up to 0.8 points.
    save_weights(student.cpu(), files.student, student.description(), torch.float32)
    # A fresh clone evaluates that copy, so the model file is made from it.
    student = load_student(files.student)
    chosen = full_threshold(recipe, student)
    size = export(student, files.model, threshold=chosen.get("threshold"))
    classes = {"validation": Confusion.of_model(student, recipe.validation)}
    tested = test_accuracies(recipe, {"ternary, float activations": before})
    if tested:
        classes["test"] = Confusion.of_model(student, open_test(config.data, READABLE))
        tested["test_top1"]["after recovery"] = classes["test"].top1
    phases = {"teacher": teacher_progress, "student": student_progress, "recovery": recovery_progress}
    validation = {
        "ternary, float activations": best(recipe, before, student_progress),
        **forms,
        "checkpoint, as exported": classes["validation"].top1,
    }
    if teacher is not None:
        validation = {"teacher": accuracy(teacher, recipe.validation), **validation}
    if recovery_progress is not None:
        validation["after recovery"] = best(recipe, student, recovery_progress)
    record = {
        "command": command(),
        "configuration": config.settings(),
        "validation_top1": validation,
        **origin(config),
        **chosen,
        **tested,
        "classes": {part: confusion.as_json() for part, confusion in classes.items()},
        "epochs_log": {name: rounded(progress) for name, progress in phases.items() if progress is not None},
        "model_bytes": size,
    }
    write_json(record, files.record)
    for part, confusion in classes.items():
        print("\n".join([f"{part} top-1 {confusion.top1:.2f} % (as exported)", *confusion.lines()]))
    print(f"{files.model}: {size} bytes")
    return files


def full_threshold(recipe: Recipe, student: Student) -> dict[str, Any]:
    """The threshold for "unknown" that validation pictures choose for a student in SPEC's integers, and the part of
    them that it keeps; nothing if the settings do not ask for one."""
    settings = recipe.config.quick
    if settings is None:
        return {}
    logits = torch.cat(list(predictions(student, recipe.validation))) * 2.0 ** student.fracs["head"]
    best = logits.max(1).values.numpy()
    threshold = threshold_of(best, settings.known)
    return {"threshold": threshold, "known_kept": percent(best >= threshold)}


def best(recipe: Recipe, model: nn.Module, progress: Progress | None) -> float:
    """Validation top-1 in percent of a phase's best epoch, whose weights the model has; of the model where the phase
    was skipped."""
    if progress is None or recipe.training.balanced:
        return accuracy(model, recipe.validation)
    return progress.best


def origin(config: Config) -> dict[str, Any]:
    """Where a run's student came from, if not from random weights: file, digest, and the log that it brought along."""
    if not config.student.weights:
        return {}
    path = ROOT / config.student.weights
    found = {"file": config.student.weights, "sha256": file_digest(path), "log": brought_log(path)}
    return {"started_from": {key: value for key, value in found.items() if value}}


def accuracy_of_forms(recipe: Recipe, before: Student, calibrated: Student) -> dict[str, float]:
    """Validation top-1 in percent of a student in SPEC's integer forms, before recovery."""
    embedded = copy.deepcopy(before)
    round_embeddings(embedded.vit, calibrated.fracs)
    return {
        "int8 embeddings, else float": accuracy(embedded, recipe.validation),
        "all integers, before recovery": accuracy(calibrated, recipe.validation),
    }


def control(config: Config, run: Path, beginning: Beginning = "resume") -> Files | None:
    """Train the FP32 control of a configuration, and record its accuracy."""
    with Recipe.opened(config, run, beginning) as recipe:
        return make_control(recipe, files_of(config, run))


def make_control(recipe: Recipe, files: Files) -> Files | None:
    """`control` of an opened recipe."""
    teacher, _ = prepare_teacher(recipe)
    model, progress = train_control(recipe, teacher)
    if not recipe.processes.first:
        return None
    record = {
        "command": command(),
        "validation_top1": best(recipe, model, progress),
        **test_accuracies(recipe, {"FP32 control": model}),
        **origin(recipe.config),
    }
    if progress is not None:
        record["epochs_log"] = rounded(progress)
    write_json(record, files.control_record)
    return files


def test_accuracies(recipe: Recipe, models: dict[str, nn.Module]) -> dict[str, dict[str, float]]:
    """{"test_top1": by name in percent}, measured once, after all training; nothing where there is no test part."""
    if not has_test(recipe.config.data):
        return {}
    test = open_test(recipe.config.data, READABLE)
    return {"test_top1": {name: accuracy(model, test) for name, model in models.items()}}


def command() -> str:
    """The command line of this process."""
    return shlex.join(["python", "-m", "trainer", *sys.argv[1:]])


def rounded(progress: Progress) -> list[dict[str, float]]:
    """Epochs of a phase without their seconds."""
    return [{key: round(row[key], 6) for key in RECORDED if key in row} for row in progress.log]
