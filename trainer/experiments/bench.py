# SPDX-License-Identifier: MIT
"""Time of a training step relative to the FP32 step of the same model on the same batch, in one run."""

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from host_sim.tables import aligned
from trainer.config import Config
from trainer.data import Batch
from trainer.errors import TrainerError
from trainer.files import write_json
from trainer.integer.calibrate import calibrate
from trainer.model.pixels import Pixels
from trainer.model.predict import computing_on, device, limited_threads
from trainer.model.student import Blueprint, Student
from trainer.model.teacher import Teacher
from trainer.training.phases import teacher_blueprint

TITLES = {
    "fp32": "FP32",
    "ternary": "ternary weights (phase 1)",
    "integer": "SPEC's integers (phase 2)",
    "teacher": "teacher's forward alone, not part of the others",
}


def forward_backward(student: Student, batch: Batch) -> None:
    """A step without the teacher and the optimizer: forward, cross-entropy, backward."""
    student.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(student(batch.images).float(), batch.labels).backward()


def random_batch(config: Config, classes: int) -> Batch:
    """A batch of noise in the configuration's sizes."""
    generator = torch.Generator().manual_seed(0)
    shape = (config.student.batch, config.data.size, config.data.size, config.data.channels)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (config.student.batch,), generator=generator)
    return Batch(images.to(device()), labels.to(device()))


def students(config: Config, classes: int, batch: Batch) -> dict[str, Student]:
    """The same model in full precision, ternary with float activations, and under SPEC's integers."""
    pixels = Pixels((0.5,) * config.data.channels, (0.25,) * config.data.channels)
    labels = tuple(f"class {number}" for number in range(classes))
    blueprint = Blueprint(config.name, config.model, config.data.size, labels, pixels, config.ternary)
    made = {}
    for name in ("fp32", "ternary", "integer"):
        torch.manual_seed(0)
        student = made[name] = Student(blueprint)
        student.full_precision(name == "fp32")
        if name == "integer":
            calibrate(student, batch.images[:64].cpu())
        student.to(device()).train()
    return made


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round; the steps alternate, so that a busy machine slows all equally."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in tqdm(range(rounds + 1), "rounds", leave=False, disable=None):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return seconds


def bench(config: Config, classes: int, rounds: int, output: Path) -> str:
    """Measure, write JSON to `output`, and return the table: medians, and median ratios to the FP32 step."""
    if config.teacher is None:
        raise TrainerError(f"{config.source}: has no [teacher], whose step would be timed, too")
    with computing_on(config.compute.device), limited_threads(config.compute.threads):
        batch = random_batch(config, classes)
        models = students(config, classes, batch)
        teacher = Teacher(teacher_blueprint(config, classes, models["fp32"].pixels)).to(device()).freeze()
        steps: dict[str, Callable[[], object]] = {
            name: functools.partial(forward_backward, model, batch) for name, model in models.items()
        }
        steps["teacher"] = functools.partial(teacher, batch.images)
        seconds = measure(steps, rounds)
    rows = {
        name: {
            "median_s": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, seconds["fp32"], strict=True)),
        }
        for name, values in seconds.items()
    }
    result = {
        "configuration": config.name,
        "batch": config.student.batch,
        "threads": config.compute.threads or torch.get_num_threads(),
        "rounds": rounds,
        "steps": rows,
    }
    write_json(result, output)
    table = [(TITLES[name], f"{1000 * row['median_s']:.1f} ms", f"{row['ratio']:.2f} x") for name, row in rows.items()]
    return f"{config.name}, batch {config.student.batch}, {rounds} rounds\n{aligned(table)}"
