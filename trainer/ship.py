# SPDX-License-Identifier: MIT
"""The whole way to the shipped files: teacher, student, recovery, export and the record of how they were made."""

import json
import shlex
import sys
from pathlib import Path

from trainer.checkpoint import save_fp16, write_atomically
from trainer.config import Config
from trainer.data import FASHION_MNIST_LABELS
from trainer.evaluate import load_student
from trainer.export import export
from trainer.files import Files
from trainer.fit import accuracy
from trainer.train import Recipe, recover, train_student, train_teacher


def train(config: Config, data: Path | None, run: Path, files: Files) -> None:
    """Make all shipped files from a configuration; resumes from the checkpoints in `run`."""
    recipe = Recipe.load(config, data, run)
    teacher, teacher_progress = train_teacher(recipe)
    student, student_progress = train_student(recipe, teacher)
    recovery_progress = recover(recipe, teacher, student)

    save_fp16(teacher, files.teacher, teacher.description())
    save_fp16(student, files.student, student.description())
    # The fp16 copy is what a fresh clone can evaluate, so the model file is made from it.
    student = load_student(files.student)
    size = export(student, FASHION_MNIST_LABELS, files.model)
    record = {
        "command": shlex.join(["python", "-m", "trainer", *sys.argv[1:]]),
        "configuration": config.settings(),
        "validation_top1": {
            "teacher": teacher_progress.best,
            "ternary, float activations": student_progress.best,
            "after recovery": recovery_progress.best,
            "fp16 checkpoint, as exported": accuracy(student, recipe.validation),
        },
        "epochs_log": {
            "teacher": rounded(teacher_progress.log),
            "student": rounded(student_progress.log),
            "recovery": rounded(recovery_progress.log),
        },
        "model_bytes": size,
    }
    write_atomically((json.dumps(record, indent=1) + "\n").encode(), files.record)
    print(f"{files.model}: {size} bytes")


def rounded(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Epochs of a run without their seconds: epoch, loss, validation top-1 in percent."""
    return [{key: round(row[key], 4) for key in ("epoch", "loss", "validation_top1")} for row in log]
