# SPDX-License-Identifier: MIT
"""The phases of training: teacher, ternary student, recovery under SPEC's integers; and the FP32 control."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from timm.task import ClassificationTask
from torch import Tensor, nn

from trainer.config import Config, Phase
from trainer.data import Pictures, open_data
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate
from trainer.model.pixels import Pixels
from trainer.model.predict import computing_on, device
from trainer.model.student import Blueprint, Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import check_settings
from trainer.paths import READABLE, ROOT, TABLES
from trainer.training.distill import DistillationTask, LiveTeacher, table_path, teacher_table
from trainer.training.loop import Progress, Run, fit
from trainer.training.manifest import Beginning, Inventory, begin, checkpoint_path, locked, trains_teacher
from trainer.training.output_aware import output_aware
from trainer.training.processes import Processes
from trainer.training.restore import load_teacher

# Phases whose checkpoints are stale once a phase runs anew.
MADE_FROM = {"teacher": ("control", "student", "recovery"), "student": ("recovery",)}


@dataclass(frozen=True)
class Recipe:
    """A configuration with its data; `directory` receives checkpoints and logs.

    manifest: digest of what the run is made from.
    """

    config: Config
    training: Pictures
    validation: Pictures
    pixels: Pixels
    directory: Path
    processes: Processes = field(default_factory=Processes)
    manifest: str = ""

    @classmethod
    @contextmanager
    def opened(cls, config: Config, directory: Path, beginning: Beginning = "resume") -> Iterator["Recipe"]:
        """Open the data, and `directory` for this training alone.

        TrainerError if another training is at work in it, or if its checkpoints were made from other settings,
        pictures or weights.
        """
        try:
            check_settings(config.model, config.data.size, config.data.channels)
        except TrainerError as error:
            raise TrainerError(f"{config.source}: [model] {error}") from None
        with ExitStack() as stack:
            where = stack.enter_context(computing_on(config.compute.device))
            processes = Processes.join()
            processes.say(where)
            if processes.first:
                stack.enter_context(locked(directory))
            training, validation = open_data(config.data, READABLE)
            manifest = ""
            if processes.first:
                manifest = begin(directory, config, Inventory.of(training, validation), beginning).digest
            manifest = processes.text(manifest)
            mean, std = training.statistics()
            # A constant channel carries no information at any scale.
            pixels = Pixels(tuple(mean), tuple(value or 1.0 for value in std))
            yield cls(config, training, validation, pixels, directory, processes, manifest)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.training.labels)

    def new_teacher(self) -> Teacher:
        """A teacher from timm: untrained, or with the weights that its settings name."""
        torch.manual_seed(self.config.seed)
        model, sized = self.config.teacher.model, False
        if model.name == "same":
            model, sized = replace(self.config.model, pretrained=model.pretrained, checkpoint=model.checkpoint), True
        return Teacher(TeacherBlueprint(model, self.classes, self.pixels, self.config.data.size if sized else 0))

    def new_student(self) -> Student:
        """An untrained student, or one with the weights that the settings of its model name."""
        torch.manual_seed(self.config.seed)
        config = self.config
        student = Student(
            Blueprint(config.name, config.model, config.data.size, self.training.labels, self.pixels, config.ternary)
        )
        choose_attention(student, config.compute.amp)
        return student

    def fit(self, name: str, phase: Phase, model: nn.Module, task: nn.Module, **hooks: Callable) -> Progress:
        """Run a phase, or what is left of it."""
        run = Run(
            name=name,
            model=model,
            task=task,
            training=self.training,
            validation=self.validation,
            phase=phase,
            compute=self.config.compute,
            seed=self.config.seed,
            directory=self.directory,
            processes=self.processes,
            manifest=self.manifest,
            **hooks,
        )
        if not run.checkpoint.exists() and self.processes.first:
            for later in MADE_FROM.get(name, ()):
                checkpoint_path(self.directory, later).unlink(missing_ok=True)
        self.processes.wait()
        return fit(run)


def choose_attention(student: Student, amp: bool) -> None:
    """Let a student's attention be computed by matrix products where torch's fused form is slower.

    In bfloat16 on a CPU, forward and backward at [256, 65, 192] took 0.185 s fused and 0.066 s by products. In float32
    the fused form is 10 to 20 % faster.
    """
    if amp and device().type == "cpu":
        for block in student.vit.blocks:
            block.attn.fused_attn = False


class SupervisedTask(ClassificationTask):
    """timm's classification task, called as DistillationTask is."""

    def forward(self, images: Tensor, target: Tensor, keys: Tensor | None = None) -> dict[str, Tensor]:
        """images: uint8 [batch, height, width, channels]; target: int64 [batch]."""
        return super().forward(images, target)


def prepare_teacher(recipe: Recipe) -> tuple[Teacher, Progress | None]:
    """The frozen teacher: from its checkpoint, from pretrained weights, or trained now."""
    settings = recipe.config.teacher
    path = ROOT / settings.checkpoint
    progress = None
    if settings.checkpoint and path.exists() and not trains_teacher(recipe.config, recipe.directory):
        teacher = load_teacher(path)
        if teacher.blueprint.classes != recipe.classes:
            raise TrainerError(f"{path}: teaches {teacher.blueprint.classes} classes, the data has {recipe.classes}")
    else:
        teacher = recipe.new_teacher()
        if settings.training is not None:
            kind = {"criterion_kwargs": {"smoothing": settings.training.smoothing}, "verbose": False}
            progress = recipe.fit("teacher", settings.training, teacher, SupervisedTask(teacher, **kind))
        elif not (settings.model.pretrained or settings.model.checkpoint):
            raise TrainerError(f"{path}: not found, and there is no [teacher.training] to make it")
    return teacher.freeze(), progress


def distillation(recipe: Recipe, teacher: Teacher, student: Student) -> DistillationTask:
    """The task that both phases share; the teacher's outputs come from a table if the data allows one."""
    settings, pictures = recipe.config.distillation, recipe.training
    source = LiveTeacher(teacher, with_features=settings.feature_weight > 0)
    if recipe.config.compute.table and pictures.variants is not None and not source.with_features:
        path = table_path(TABLES, teacher, recipe.config.data, pictures)
        if recipe.processes.first:
            teacher_table(path, teacher, pictures)
        recipe.processes.wait()
        source = teacher_table(path, teacher, pictures)
    return DistillationTask(student, source.to(device(student)), settings)


def train_student(recipe: Recipe, teacher: Teacher) -> tuple[Student, Progress]:
    """Phase 1: distil into ternary weights with float activations."""
    settings, student = recipe.config.student, recipe.new_student()

    def start_epoch(model: Student, epoch: int, step: int) -> bool:
        first = settings.full_precision_epochs
        model.full_precision(epoch < first)
        if epoch == first and step == 0:
            if settings.start == "output_aware":
                model.full_precision(True)
                output_aware(model.cpu(), calibration_pictures(recipe))
                model.to(device(model))
            model.start_learned_scales()
        return epoch >= first

    def after_step(model: Student, rate: float) -> None:
        if settings.dampening:
            model.dampen(min(1.0, settings.dampening * rate))

    task = distillation(recipe, teacher, student)
    return student, recipe.fit("student", settings, student, task, start_epoch=start_epoch, after_step=after_step)


def train_control(recipe: Recipe, teacher: Teacher) -> tuple[Student, Progress]:
    """The FP32 control: phase 1 with the same teacher, augmentation and epochs, never ternary."""
    student = recipe.new_student()
    student.full_precision(True)
    task = distillation(recipe, teacher, student)
    return student, recipe.fit("control", recipe.config.student, student, task)


def calibration_pictures(recipe: Recipe) -> Tensor:
    """Evenly spaced training pictures, as the board sees them: uint8 [count, size, size, channels]."""
    count = recipe.config.recovery.calibration
    return torch.cat([part.images for part in recipe.training.spread(count).ordered(count)])


def calibrate_student(recipe: Recipe, student: Student) -> None:
    """Choose the static scales; the student then computes in SPEC's integers.

    The scales are not saved: choosing them takes seconds and is deterministic.
    """
    student.full_precision(False)
    calibrate(student.cpu(), calibration_pictures(recipe))


def recover(recipe: Recipe, teacher: Teacher, student: Student) -> Progress:
    """Phase 2: continue to train a calibrated student, in SPEC's integers."""
    return recipe.fit("recovery", recipe.config.recovery, student, distillation(recipe, teacher, student))
