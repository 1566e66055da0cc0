# SPDX-License-Identifier: MIT
"""Checkpoints of training loops outside this trainer, as files that its phases start from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from trainer.errors import TrainerError
from trainer.integer.network import IntegerNetwork
from trainer.model.student import Blueprint, Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.training.checkpoint import save_weights
from trainer.training.restore import without_weights


def import_state(path: Path, out: Path, labels: Sequence[str] = ()) -> str:
    """Write a state as a checkpoint of this trainer; returns what it is, in words.

    path: a file of torch.save with "net", the state dict of a Student or of a Teacher's net, and "blueprint", that
    object's description(); "log", if there, goes along. labels: of the classes in order, none: those it has.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainerError(
            f"{path}: not a readable state ({str(error).splitlines()[0] if str(error) else error})"
        ) from None
    described = state.get("blueprint") if isinstance(state, dict) else None
    if not isinstance(described, dict) or not isinstance(state.get("net"), dict):
        raise TrainerError(f"{path}: needs a state dict under 'net' and what describes its model under 'blueprint'")
    try:
        model, dtype = made(described, labels)
        (model.net if isinstance(model, Teacher) else model).load_state_dict(state["net"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainerError(f"{path}: net and blueprint are at odds ({error})") from None
    except TrainerError as error:
        raise TrainerError(f"{path}: {error}") from None
    log = {"log": json.dumps(state["log"])} if state.get("log") else {}
    save_weights(model, out, {**model.description(), **log}, dtype)
    return "a teacher" if isinstance(model, Teacher) else "a student"


def made(described: dict[str, str], labels: Sequence[str]) -> tuple[Student | Teacher, torch.dtype]:
    """The model that a description means, without its weights, and the type that they are kept in."""
    if "teacher" in described:
        return Teacher(without_weights(TeacherBlueprint, json.loads(described["teacher"]))), torch.float16
    blueprint = without_weights(Blueprint, json.loads(described["blueprint"]))
    if labels and len(labels) != len(blueprint.labels):
        raise TrainerError(f"is for {len(blueprint.labels)} classes, the data has {len(labels)}")
    student = Student(replace(blueprint, labels=tuple(labels) or blueprint.labels))
    if fracs := json.loads(described.get("fracs", "{}")):
        student.arithmetic = IntegerNetwork.of(student, fracs)
    return student, torch.float32
