# SPDX-License-Identifier: MIT
"""Tiny training runs on made-up pictures, in this process or as programs that tests start and kill.

python -m tests.runs train DIRECTORY [SECTION.KEY=VALUE ...]        also under torchrun
python -m tests.runs killed DIRECTORY SEED [SECTION.KEY=VALUE ...]  killed again and again, and then left alone
"""

import copy
import io
import os
import random
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import images
from trainer import cli
from trainer.config import Config, override
from trainer.data import MemoryPictures
from trainer.model.pixels import Pixels
from trainer.model.student import Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import ModelSettings
from trainer.settings import build
from trainer.training import loop as fit
from trainer.training import phases as train
from trainer.training.phases import Recipe, train_student
from trainer.training.processes import Processes

LABELS = ("left", "even", "right")
PIXELS = Pixels((0.45,), (0.25,))
PHASE = {"epochs": 3, "batch": 16, "learning_rate": 0.01, "warmup": 0.2, "weight_decay": 0.01}
VALUES: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "fashion_mnist", "size": 28, "channels": 1, "validation": 30, "shift": 1},
    "model": {
        "name": "vit_tiny_patch16_224",
        "options": {"patch_size": 14, "embed_dim": 12, "depth": 1, "num_heads": 2, "mlp_ratio": 2, "drop_rate": 0.1},
    },
    "teacher": {"model": {"name": "small_resnet"}, "training": PHASE},
    "distillation": {"temperature": 2.0, "label_weight": 0.3},
    "student": {**PHASE, "full_precision_epochs": 1},
    "recovery": {**PHASE, "epochs": 1, "calibration": 16},
    "compute": {"threads": 1, "table": False},
}
FOREVER = 1e6  # minutes
DEATHS = (1, 2, 3, 1)  # steps that the first children make, of 12
RANDOM_KILLS = 6


def settings(*changes: str) -> Config:
    """The configuration of a tiny run, with changes as on the command line."""
    values = copy.deepcopy(VALUES)
    for change in changes:
        override(values, change)
    return build(Config, values)


def data(count: int, seed: int, shift: int = 1) -> MemoryPictures:
    """Pictures whose class is their brighter half."""
    pixels = images(count, seed=seed)
    left, right = (half.float().mean((1, 2, 3)) for half in pixels.split(14, 2))
    return MemoryPictures(pixels, (left < right + 10).long() + (left < right - 10), LABELS, shift, mirrored=False)


def tiny_recipe(directory: Path, *changes: str) -> Recipe:
    """A recipe in `directory`, which also receives tables."""
    config = settings(*changes)
    train.TABLES = directory / "tables"
    training = data(70, 1, config.data.shift)
    return Recipe(config, training, data(30, 2), PIXELS, directory, Processes.join())


def tiny_teacher() -> Teacher:
    """A small random residual CNN, frozen."""
    torch.manual_seed(9)
    model = ModelSettings("small_resnet", {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]})
    return Teacher(TeacherBlueprint(model, len(LABELS), PIXELS)).freeze()


def tiny_student(directory: Path, *changes: str) -> Student:
    """The student of a recipe, trained to the end or from its checkpoint to the end."""
    return train_student(tiny_recipe(directory, *changes), tiny_teacher())[0]


def weights(student: torch.nn.Module) -> torch.Tensor:
    """All parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def trainer(*arguments: object, status: int = 0) -> str:
    """Run a command of the trainer in this process, where torch is imported already; returns what it printed on stdout
    and stderr together."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        assert cli.main() == status, said.getvalue()
    return said.getvalue()


def train_here(directory: Path, changes: list[str]) -> None:
    """Train; each process leaves its weights. Only the first may write anything else."""
    processes = Processes.join()
    if not processes.first:

        def refuse(*arguments: Any) -> None:
            raise AssertionError("a process other than the first writes")

        fit.save_state = fit.write_atomically = refuse
    student = tiny_student(directory, *changes)
    torch.save(student.state_dict(), directory / f"weights-{processes.rank}.pt")


def kill_again_and_again(directory: Path, seed: int, changes: list[str]) -> None:
    """Children of this process train; they are killed after DEATHS steps, then after random times, then never.

    Forked, so that torch is imported only once.
    """
    generator = random.Random(seed)
    for attempt in range(len(DEATHS) + RANDOM_KILLS + 1):
        child = os.fork()
        if child == 0:
            if attempt < len(DEATHS):
                die_after(DEATHS[attempt])
            train_here(directory, changes)
            os._exit(0)
        if len(DEATHS) <= attempt < len(DEATHS) + RANDOM_KILLS:
            time.sleep(generator.uniform(0.01, 0.3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(f"{attempt} kills")
            sys.exit(os.WEXITSTATUS(status))
    sys.exit("still not done")


def die_after(steps: int) -> None:
    """Kill this process once it has made so many steps."""
    step, left = fit.Trainer.step, [steps]

    def counted(*arguments: Any) -> float:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return step(*arguments)

    fit.Trainer.step = counted


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "train":
        train_here(Path(sys.argv[2]), sys.argv[3:])
    else:
        kill_again_and_again(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
