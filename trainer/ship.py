"""The whole way to the shipped files: teacher, student, recovery, export and the record of how they were made."""

import json
from pathlib import Path

from trainer.checkpoint import save_fp16, write_atomically
from trainer.config import Config
from trainer.data import FASHION_MNIST_LABELS
from trainer.evaluate import load_student
from trainer.export import export
from trainer.files import Files
from trainer.fit import accuracy
from trainer.train import Recipe, recover, train_student, train_teacher


def labels() -> list[str]:
    """Class names of the shipped model."""
    return list(FASHION_MNIST_LABELS)


def train(config: Config, data: Path | None, run: Path, files: Files) -> None:
    """Make all shipped files from a configuration; resumes from the checkpoints in `run`."""
    recipe = Recipe.load(config, data, run)
    teacher, teacher_top1 = train_teacher(recipe)
    student, ternary_top1 = train_student(recipe, teacher)
    recovered_top1 = recover(recipe, teacher, student)

    save_fp16(teacher, files.teacher, teacher.description())
    save_fp16(student, files.student, student.description())
    # The fp16 copy is what a fresh clone can evaluate, so the model file is made from it.
    student = load_student(files.student)
    size = export(student, labels(), files.model)
    record = {
        "command": "just train",
        "configuration": config.settings(),
        "validation_top1": {
            "teacher": teacher_top1,
            "ternary, float activations": ternary_top1,
            "after recovery": recovered_top1,
            "fp16 checkpoint, as exported": accuracy(student, recipe.validation),
        },
        "epochs_log": {name: read_log(run / f"{name}.jsonl") for name in ("teacher", "student", "recovery")},
        "model_bytes": size,
    }
    write_atomically((json.dumps(record, indent=1) + "\n").encode(), files.record)
    print(f"{files.model}: {size} bytes")


def read_log(path: Path) -> list[dict[str, float]]:
    """Epochs of a run: epoch, loss, validation top-1 in percent."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: round(row[key], 4) for key in ("epoch", "loss", "validation_top1")} for row in rows]
