# SPDX-License-Identifier: MIT
"""Students and teachers from checkpoints, whose metadata says how to build them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from trainer.errors import TrainerError
from trainer.integer.network import IntegerNetwork
from trainer.model.student import Blueprint, Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.settings import build
from trainer.training.checkpoint import checkpoint_metadata, load_weights


def restored(path: Path, make: Callable[[dict[str, Any]], nn.Module], *keys: str) -> nn.Module:
    """The model of a checkpoint: made from the metadata under `keys`, filled, in evaluation mode."""
    metadata = checkpoint_metadata(path, *keys)
    try:
        model = make(metadata)
    except TrainerError as error:
        raise TrainerError(f"{path}: {error}") from None
    load_weights(model, path)
    return model.eval()


def without_weights(kind: type, values: Any) -> Any:
    """The blueprint `kind` of a checkpoint, without pretrained weights: the checkpoint holds all weights."""
    blueprint = build(kind, values)
    return replace(blueprint, model=replace(blueprint.model, pretrained=False, checkpoint=""))


def load_student(path: Path) -> Student:
    """The student of a checkpoint, calibrated if it was."""

    def make(metadata: dict[str, Any]) -> Student:
        student = Student(without_weights(Blueprint, metadata["blueprint"]))
        if metadata["fracs"]:
            student.arithmetic = IntegerNetwork.of(student, metadata["fracs"])
        return student

    return restored(path, make, "blueprint", "fracs")


def load_teacher(path: Path) -> Teacher:
    """The teacher of a checkpoint."""
    return restored(path, lambda metadata: Teacher(without_weights(TeacherBlueprint, metadata["teacher"])), "teacher")
