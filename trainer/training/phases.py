# SPDX-License-Identifier: MIT
"""The phases of training: teacher, ternary student, recovery under SPEC's integers; and the FP32 control."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from timm.task import ClassificationTask, TrainingTask
from torch import Tensor, nn

from trainer.config import Config, Phase
from trainer.data import Pictures, open_data
from trainer.data.advice import unevenness
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate
from trainer.integer.network import IntegerNetwork
from trainer.model.pixels import Pixels
from trainer.model.predict import computing_on, device
from trainer.model.student import Blueprint, FloatArithmetic, Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import check_settings
from trainer.paths import READABLE, ROOT, TABLES
from trainer.training.distill import DistillationTask, LiveTeacher, table_path, teacher_table
from trainer.training.loop import Progress, Run, fit
from trainer.training.manifest import Beginning, Inventory, begin, checkpoint_path, locked, trains_teacher
from trainer.training.output_aware import output_aware
from trainer.training.processes import Processes
from trainer.training.restore import load_student, load_teacher

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

        TrainerError if another training is running in it, or if its checkpoints were made from other settings,
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
            if uneven := unevenness(training):
                processes.say(f"note: {uneven}")
            config = config.balanced(training.balanced)
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
        return Teacher(teacher_blueprint(self.config, self.classes, self.pixels))

    def new_student(self) -> Student:
        """An untrained student, or one with the weights that the settings of its model or phase name."""
        torch.manual_seed(self.config.seed)
        config = self.config
        given = self.given_student()
        # What was learned of pictures was learned with this normalisation.
        pixels = given.pixels if given else self.pixels
        blueprint = Blueprint(
            config.name, config.model, config.data.size, tuple(self.training.labels), pixels, config.ternary
        )
        student = Student(blueprint)
        if given:
            take_weights(student, given, config.student.weights)
        choose_attention(student, config.compute.amp)
        return student

    def given_student(self) -> Student | None:
        """The student whose weights the settings name."""
        weights = self.config.student.weights
        return load_student(ROOT / weights) if weights else None

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


def teacher_blueprint(config: Config, classes: int, pixels: Pixels) -> TeacherBlueprint:
    """The blueprint of a configuration's teacher; TrainerError without one."""
    settings = config.teacher
    if settings is None:
        raise TrainerError(f"{config.source}: [teacher] is missing")
    if settings.model.name != "same":
        return TeacherBlueprint(settings.model, classes, pixels, side=settings.size)
    given = settings.model
    model = replace(config.model, pretrained=given.pretrained, checkpoint=given.checkpoint)
    return TeacherBlueprint(model, classes, pixels, settings.size or config.data.size, settings.size)


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

    def forward(
        self, images: Tensor, target: Tensor, keys: Tensor | None = None, whole: Tensor | None = None
    ) -> dict[str, Tensor]:
        """images: uint8 [batch, side, side, channels]; target: int64 [batch]."""
        return super().forward(images, target)


def take_weights(student: Student, given: Student, path: str) -> None:
    """Fill a student with another's weights and scales; a head for other labels stays as it is, and nothing is
    calibrated then. TrainerError for a student of another shape."""
    same_labels = given.blueprint.labels == student.blueprint.labels
    state = given.state_dict()
    expected = student.state_dict()
    if not same_labels:
        state = {name: expected[name] if name.startswith("vit.head.") else tensor for name, tensor in state.items()}
    odd = sorted(set(state) ^ set(expected)) or [n for n in state if state[n].shape != expected[n].shape]
    if odd:
        raise TrainerError(f"{path}: weights do not fit [model] and [data]: {', '.join(odd[:4])}")
    student.load_state_dict(state)
    if given.calibrated and same_labels:
        student.arithmetic = IntegerNetwork.of(student, given.fracs)


def prepare_teacher(recipe: Recipe) -> tuple[Teacher | None, Progress | None]:
    """The frozen teacher: from its checkpoint, from pretrained weights, or trained now; None without a [teacher]."""
    settings = recipe.config.teacher
    if settings is None:
        return None, None
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


def lesson(recipe: Recipe, teacher: Teacher | None, student: Student, phase: Phase) -> TrainingTask:
    """The task of a phase: to learn from a teacher, whose outputs come from a table if the data allows one, or without
    one from the labels."""
    settings, pictures = recipe.config.distillation, recipe.training
    if teacher is None or settings is None:
        return SupervisedTask(student, criterion_kwargs={"smoothing": phase.smoothing}, verbose=False)
    source = LiveTeacher(teacher, with_features=settings.feature_weight > 0)
    if recipe.config.compute.table and pictures.variants is not None and not source.with_features:
        amp = recipe.config.compute.amp
        path = table_path(TABLES, teacher, recipe.config.data, pictures, amp)
        if recipe.processes.first:
            teacher_table(path, teacher, pictures, amp)
        recipe.processes.wait()
        source = teacher_table(path, teacher, pictures, amp)
    return DistillationTask(student, source.to(device(student)), settings)


def train_student(recipe: Recipe, teacher: Teacher | None) -> tuple[Student, Progress | None]:
    """Phase 1: distil into ternary weights with float activations. No epochs: the student that the settings name, which
    may be calibrated."""
    settings, student = recipe.config.student, recipe.new_student()
    if not settings.epochs:
        check_labels(recipe)
        return student, None
    student.arithmetic = FloatArithmetic(student.vit, student.pixels)

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

    task = lesson(recipe, teacher, student, settings)
    return student, recipe.fit("student", settings, student, task, start_epoch=start_epoch, after_step=after_step)


def check_labels(recipe: Recipe) -> None:
    """Raise TrainerError unless the weights that stand for a phase have the data's labels."""
    given, labels = recipe.given_student(), tuple(recipe.training.labels)
    if given is not None and given.blueprint.labels != labels:
        ours, theirs = (", ".join(names[:3]) for names in (labels, given.blueprint.labels))
        raise TrainerError(
            f"{recipe.config.student.weights}: is for {len(given.blueprint.labels)} classes ({theirs} ..), "
            f"the data has {len(labels)} ({ours} ..); `trainer import` gives it the data's labels"
        )


def train_control(recipe: Recipe, teacher: Teacher | None) -> tuple[Student, Progress | None]:
    """The FP32 control: phase 1 with the same teacher, augmentation and epochs, never ternary."""
    settings, student = recipe.config.student, recipe.new_student()
    student.arithmetic = FloatArithmetic(student.vit, student.pixels)
    student.full_precision(True)
    if not settings.epochs:
        check_labels(recipe)
        return student, None
    return student, recipe.fit("control", settings, student, lesson(recipe, teacher, student, settings))


def calibration_pictures(recipe: Recipe) -> Tensor:
    """Evenly spaced training pictures, as the board sees them: uint8 [count, size, size, channels]."""
    count = recipe.config.recovery.calibration
    return torch.cat([part.images for part in recipe.training.spread(count).ordered(count)])


def calibrate_student(recipe: Recipe, student: Student) -> None:
    """Choose the static scales; the student then computes in SPEC's integers.

    The scales are not saved: choosing them takes seconds and is deterministic.
    """
    student.full_precision(False)
    if not student.calibrated:
        calibrate(student.cpu(), calibration_pictures(recipe))


def recover(recipe: Recipe, teacher: Teacher | None, student: Student) -> Progress | None:
    """Phase 2: continue to train a calibrated student, in SPEC's integers."""
    settings = recipe.config.recovery
    if not settings.epochs:
        return None
    return recipe.fit("recovery", settings, student, lesson(recipe, teacher, student, settings))
