# SPDX-License-Identifier: MIT
"""From nothing to the shipped model: teacher, ternary student, recovery under SPEC's integers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.calibrate import calibrate
from trainer.checkpoint import write_atomically
from trainer.config import Config, Phase
from trainer.data import FASHION_MNIST_LABELS, Split, load_fashion_mnist
from trainer.distill import distillation_loss
from trainer.errors import TrainerError
from trainer.fit import Progress, Run, checkpoint_path, fit
from trainer.layers import set_full_precision
from trainer.student import Student
from trainer.teacher import Teacher, pixel_statistics

PHASES = ("teacher", "student", "recovery")


def keep_settings(config: Config, path: Path) -> None:
    """Note a run's settings beside its checkpoints; refuse to resume them with other settings."""
    settings = json.dumps(config.settings(), indent=1)
    if not path.exists():
        write_atomically(settings.encode(), path)
    elif path.read_text() != settings:
        raise TrainerError(
            f"{path.parent} holds checkpoints made with other settings than {config.source}'s: "
            "pass another --run, or delete it"
        )


@dataclass(frozen=True)
class Recipe:
    """A configuration with its data; `directory` receives checkpoints and logs."""

    config: Config
    training: Split
    validation: Split
    mean: float
    std: float
    directory: Path

    @classmethod
    def load(cls, config: Config, data: Path | None, directory: Path) -> "Recipe":
        """Read the training pictures and hold the validation part out of them."""
        everything = load_fashion_mnist("train", data)
        held_out = config.data.validation
        sizes = config.architecture
        if held_out >= len(everything):
            raise TrainerError(
                f"{config.source}: [data] validation must be below {len(everything)}, the pictures there are"
            )
        if (sizes.img_size, sizes.in_chans, sizes.num_classes) != (28, 1, len(FASHION_MNIST_LABELS)):
            raise TrainerError(
                f"{config.source}: [architecture] Fashion-MNIST needs img_size 28, in_chans 1, num_classes 10"
            )
        training, validation = everything.part(None, -held_out), everything.part(-held_out, None)
        directory.mkdir(parents=True, exist_ok=True)
        keep_settings(config, directory / "settings.json")
        return cls(config, training, validation, *pixel_statistics(training), directory)

    @property
    def seed(self) -> int:
        """Seed of initial weights, order and augmentation."""
        return self.config.seed

    def new_teacher(self) -> Teacher:
        """An untrained teacher."""
        torch.manual_seed(self.seed)
        settings, classes = self.config.teacher, self.config.architecture.num_classes
        model = Teacher(settings.layers, settings.channels, classes, self.mean, self.std)
        return model.to(memory_format=torch.channels_last)

    def new_student(self) -> Student:
        """An untrained student."""
        torch.manual_seed(self.seed)
        return Student(self.config.architecture, self.mean, self.std)

    def fit(
        self, name: str, model: nn.Module, loss: Callable, optimizer: torch.optim.Optimizer, **hooks: Callable
    ) -> Progress:
        """Run the section `name` of the configuration, or what is left of it."""
        settings: Phase = getattr(self.config, name)
        steps = len(self.training) // settings.batch * settings.epochs
        if steps * settings.warmup <= 1:
            raise TrainerError(f"[{name}] {steps} steps are too few for a warm-up of {settings.warmup}: smaller batch?")
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=steps, pct_start=settings.warmup
        )
        run = Run(
            name=name,
            model=model,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
            training=self.training,
            validation=self.validation,
            epochs=settings.epochs,
            batch=settings.batch,
            seed=self.seed,
            directory=self.directory,
            **hooks,
        )
        if not run.checkpoint.exists():
            # What was made from an earlier run of this phase is stale.
            for later in PHASES[PHASES.index(name) + 1 :]:
                checkpoint_path(self.directory, later).unlink(missing_ok=True)
        return fit(run)


def train_teacher(recipe: Recipe) -> tuple[Teacher, Progress]:
    """Train the teacher with cross-entropy: FP32 weights, bfloat16 arithmetic in the forward pass."""
    settings = recipe.config.teacher
    model = recipe.new_teacher()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        return nn.functional.cross_entropy(logits.float(), labels)

    return model, recipe.fit("teacher", model, loss, optimizer)


def adamw(model: nn.Module, settings: Phase) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def train_student(recipe: Recipe, teacher: Teacher) -> tuple[Student, Progress]:
    """Phase 1: distil into ternary weights with float activations."""
    settings = recipe.config.student
    model = recipe.new_student()

    def start_epoch(epoch: int) -> bool:
        full_precision = epoch < settings.full_precision_epochs
        set_full_precision(model, full_precision)
        return not full_precision

    loss = distillation_loss(teacher, recipe.config.distillation)
    return model, recipe.fit("student", model, loss, adamw(model, settings), start_epoch=start_epoch)


def recover(recipe: Recipe, teacher: Teacher, student: Student) -> Progress:
    """Phase 2: calibrate the static scales, then train on under SPEC's integers."""
    settings = recipe.config.recovery
    set_full_precision(student, False)
    # Not kept: it takes seconds, and gives the same scales from the same weights.
    calibrate(student, recipe.training.images[: settings.calibration])
    loss = distillation_loss(teacher, recipe.config.distillation)
    return recipe.fit("recovery", student, loss, adamw(student, settings))
