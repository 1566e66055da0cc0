# SPDX-License-Identifier: MIT
"""Accuracy of the exported bytes, run through the shipped package and kernels on the host simulator."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from trainer.checkpoint import checkpoint_metadata, load_fp16
from trainer.data import Split
from trainer.errors import TrainerError
from trainer.fit import predictions
from trainer.package import import_ftervit
from trainer.student import Architecture, Student
from trainer.teacher import Teacher


def open_model(path: Path):
    """The VisionTransformer of a model file; a file it refuses becomes a TrainerError."""
    try:
        return import_ftervit().VisionTransformer.load(str(path))
    except (OSError, ValueError) as error:
        raise TrainerError(str(error)) from None


def exported_logits(model, images: torch.Tensor, label: str = "exported file") -> np.ndarray:
    """int32 logits [count, classes] of uint8 pictures [count, height, width], one by one as on the board.

    model: what `open_model` gives.
    """
    ftervit = import_ftervit()
    logits = np.empty((len(images), len(model.labels)), np.int32)
    for row, image in zip(
        logits, tqdm(images.numpy(), label, leave=False, disable=None if label else True), strict=True
    ):
        height, width = image.shape
        picture = ftervit.Image(image.tobytes(), width, height, 1)
        row[:] = model(model.preprocess(picture))
    return logits


def restored(path: Path, make: Callable[[dict[str, Any]], nn.Module], *keys: str) -> nn.Module:
    """The model of a committed checkpoint: made from the metadata under `keys`, filled, in evaluation mode."""
    metadata = checkpoint_metadata(path, *keys)
    try:
        model = make(metadata)
    except TypeError as error:
        raise TrainerError(f"{path}: {error}") from None
    load_fp16(model, path)
    return model.eval()


def load_student(path: Path) -> Student:
    """The student of a committed checkpoint, calibrated."""

    def make(metadata: dict[str, Any]) -> Student:
        student = Student(Architecture(**metadata["architecture"]), **metadata["pixels"])
        student.fracs = metadata["fracs"]
        return student

    return restored(path, make, "architecture", "pixels", "fracs")


def load_teacher(path: Path) -> Teacher:
    """The teacher of a committed checkpoint."""
    return restored(path, lambda metadata: Teacher(**metadata["teacher"]), "teacher")


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent; agreement = the exported file's top-1 against the student's."""

    images: int
    teacher_top1: float
    student_top1: float
    exported_top1: float
    agreement: float
    equal_logits: int
    images_per_s: float
    model_bytes: int

    def table(self) -> str:
        """The result as lines for people."""
        return "\n".join(
            (
                f"{self.images} test pictures",
                f"  FP32 teacher               {self.teacher_top1:6.2f} %",
                f"  ternary student in torch   {self.student_top1:6.2f} %",
                f"  exported file              {self.exported_top1:6.2f} %   "
                f"({self.model_bytes} bytes, {self.images_per_s:.0f} pictures/s on the host simulator)",
                f"  agreement                  {self.agreement:6.2f} %   "
                f"(logits equal bit for bit on {self.equal_logits})",
            )
        )


def evaluate(model: Path, student: Student, teacher: Teacher, test: Split) -> Evaluation:
    """Run all three on the test pictures."""
    labels, exported_model = test.labels.numpy(), open_model(model)
    teacher_top1 = torch.cat(list(predictions(teacher, test.images, label="teacher"))).argmax(1).numpy()
    unit = 2.0 ** student.fracs["head"]
    fake = torch.cat(list(predictions(student, test.images, label="student"))).numpy() * unit
    started = time.perf_counter()
    exported = exported_logits(exported_model, test.images)
    seconds = time.perf_counter() - started

    def percent(hits: np.ndarray) -> float:
        return round(100 * float(hits.mean()), 2)

    student_top1, exported_top1 = fake.argmax(1), exported.argmax(1)
    return Evaluation(
        images=len(test),
        teacher_top1=percent(teacher_top1 == labels),
        student_top1=percent(student_top1 == labels),
        exported_top1=percent(exported_top1 == labels),
        agreement=percent(exported_top1 == student_top1),
        equal_logits=int((fake == exported).all(1).sum()),
        images_per_s=round(len(test) / seconds, 1),
        model_bytes=model.stat().st_size,
    )
