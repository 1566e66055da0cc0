# SPDX-License-Identifier: MIT
"""The settings of a run: a TOML file and changes from the command line, all checked before anything starts."""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm.optim

from trainer.data import DataSettings
from trainer.data.settings import LARGEST_SIDE
from trainer.errors import TrainerError, require
from trainer.integer.mean import POOLINGS
from trainer.model.layers import TernarySettings
from trainer.model.predict import AUTO, DEVICES
from trainer.model.vit import ModelSettings
from trainer.settings import build


@dataclass(frozen=True)
class DistillationSettings:
    """temperature of the Kullback-Leibler term, whose weight is 1.

    label_weight: of the cross-entropy term; feature_weight: of the term that compares which pictures of a batch teacher
    and student find similar (training.distill.similarity_loss).
    """

    temperature: float
    label_weight: float = 0.0
    feature_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature must be above 0")
        require(self.label_weight >= 0, "label_weight must not be negative")
        require(self.feature_weight >= 0, "feature_weight must not be negative")


@dataclass(frozen=True)
class Phase:
    """One training run.

    batch: pictures of a step, over all processes; learning_rate: the highest, reached by a linear warmup over the
    fraction `warmup` of all steps (of the first cosine's, if there are two); a cosine over all steps, which has fallen
    a little by then, follows; optimizer: timm's name; clip: largest gradient norm; smoothing: of the labels;
    ema: decay of the averaged weights that are validated and kept (0: none); sizes: [epochs, side] one after another,
    the side in pixels to which pictures are resized then (none: the data's size); coarse: part of a step's pictures
    that the model sees shrunk and enlarged again, so that it knows pictures with little detail, too. A teacher that is
    asked about them and validation see pictures of the data's size with all their detail.
    """

    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float
    optimizer: str = "adamw"
    clip: float = 1.0
    smoothing: float = 0.0
    ema: float = 0.0
    sizes: list[list[int]] = field(default_factory=list)
    coarse: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= self.fewest_epochs, f"epochs must be at least {self.fewest_epochs}")
        for entry in self.sizes:
            require(len(entry) == 2 and min(entry) >= 1, f"sizes has {entry}, needs [epochs, side] of at least 1 each")
            require(entry[1] <= LARGEST_SIDE, f"sizes has side {entry[1]}, must be at most {LARGEST_SIDE}")
        spent = sum(epochs for epochs, _ in self.sizes)
        require(not self.epochs or spent in (0, self.epochs), f"sizes are of {spent} epochs, epochs is {self.epochs}")
        require(0 <= self.coarse <= 1, "coarse must be 0 to 1")
        require(self.batch >= 1, "batch must be at least 1")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(0 < self.warmup < 1, "warmup must be between 0 and 1")
        require(self.weight_decay >= 0, "weight_decay must not be negative")
        known = timm.optim.list_optimizers()
        require(self.optimizer in known, f"optimizer is {self.optimizer!r}, timm has {', '.join(known[:12])} ...")
        require(self.clip > 0, "clip must be above 0")
        require(0 <= self.smoothing < 1, "smoothing must be from 0 to below 1")
        require(0 <= self.ema < 1, "ema must be from 0 to below 1")

    @property
    def fewest_epochs(self) -> int:
        """Fewest epochs that make sense."""
        return 1

    @property
    def cosines(self) -> tuple[tuple[int, float], ...]:
        """Epochs and highest learning rate of each cosine, one after another."""
        return ((self.epochs, self.learning_rate),)

    def side(self, epoch: int) -> int | None:
        """The side of an epoch's pictures, None for the data's size."""
        sides = [side for epochs, side in self.sizes for _ in range(epochs)]
        return sides[epoch] if sides else None


STARTS = ("weights", "output_aware")


@dataclass(frozen=True)
class StudentPhase(Phase):
    """full_precision_epochs: epochs before the weights become ternary.

    start: what ternary training then starts from, "weights" as they are, or "output_aware" (training.output_aware);
    ternary_learning_rate: highest learning rate of a second cosine over the ternary epochs, which the FP32 control
    follows, too (0: one cosine over all epochs); dampening: after each ternary step latent matrices move towards
    scale * trit, by dampening * learning rate of the distance (0: never). Without it weights gather at the thresholds,
    and trits oscillate (Nagel et al., arXiv 2203.08506, where the distance is a term of the loss);
    weights: a student's checkpoint to start from instead of random weights, as `trainer train` and `trainer import`
    write it; a head for other classes starts anew. With weights, epochs may be 0: they are the student then.
    """

    full_precision_epochs: int = 0
    start: str = "weights"
    ternary_learning_rate: float = 0.0
    dampening: float = 0.0
    weights: str = ""

    @property
    def fewest_epochs(self) -> int:
        """Fewest epochs that make sense."""
        return 0 if self.weights else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.start in STARTS, f"start is {self.start!r}, must be one of {', '.join(STARTS)}")
        if not self.epochs:
            return  # nothing is trained
        last = self.epochs - 1
        require(0 <= self.full_precision_epochs <= last, f"full_precision_epochs must be from 0 to {last} (epochs - 1)")
        require(self.ternary_learning_rate >= 0, "ternary_learning_rate must not be negative")
        require(self.dampening >= 0, "dampening must not be negative")
        lonely = self.ternary_learning_rate and not self.full_precision_epochs
        require(not lonely, "ternary_learning_rate needs full_precision_epochs above 0")

    @property
    def cosines(self) -> tuple[tuple[int, float], ...]:
        """Epochs and highest learning rate of each cosine, one after another."""
        if not self.ternary_learning_rate:
            return super().cosines
        first = self.full_precision_epochs
        return ((first, self.learning_rate), (self.epochs - first, self.ternary_learning_rate))


@dataclass(frozen=True)
class RecoveryPhase(Phase):
    """calibration: number of training pictures that choose the activation scales; epochs may be 0: no recovery."""

    calibration: int = 1024

    @property
    def fewest_epochs(self) -> int:
        """Fewest epochs that make sense."""
        return 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.sizes, "sizes must be empty: SPEC's integers are for one size")
        require(self.calibration >= 1, "calibration must be at least 1")


@dataclass(frozen=True)
class TeacherSettings:
    """The frozen FP32 teacher.

    model: any timm model, or the name "same" for the student's own in full precision; checkpoint: a teacher that this
    trainer saved, used if the file exists; training: how to train one otherwise (without it, `model` needs pretrained
    weights or a checkpoint); size: side in pixels to which every picture is resized before the teacher sees it, for
    weights that were learned on larger pictures (0: the data's size).
    """

    model: ModelSettings
    checkpoint: str = ""
    size: int = 0
    training: Phase | None = None

    def __post_init__(self) -> None:
        ready = self.checkpoint or self.model.pretrained or self.model.checkpoint or self.training
        require(bool(ready), "needs a checkpoint, pretrained weights or [teacher.training]")
        require(0 <= self.size <= LARGEST_SIDE, f"size is {self.size}, must be from 0 to {LARGEST_SIDE}")


@dataclass(frozen=True)
class ComputeSettings:
    """amp: bfloat16 autocast, on a CPU if it has instructions for it; compile: torch.compile; threads: of torch on the
    CPU (0: all cores);
    checkpoint_minutes: between checkpoints within an epoch; table: compute the teacher's outputs for all augmented
    pictures once and look them up, if the data has a finite number of them; device: cpu, cuda, cuda:N or mps, or "auto"
    for the first of CUDA, MPS and CPU that is there (model.predict)."""

    amp: bool = False
    compile: bool = False
    threads: int = 0
    checkpoint_minutes: float = 10.0
    table: bool = True
    device: str = AUTO

    def __post_init__(self) -> None:
        require(self.threads >= 0, "threads must not be negative")
        require(self.checkpoint_minutes > 0, "checkpoint_minutes must be above 0")
        known = DEVICES.fullmatch(self.device)
        require(known is not None, f"device is {self.device!r}, must be auto, cpu, cuda, cuda:N or mps")


@dataclass(frozen=True)
class QuickSettings:
    """A head in closed form on a student's features (speed = "quick"); and of "full" alike, when pictures are unknown.

    pooling: which features (SPEC 9.5); known: part of the validation pictures that the threshold for "unknown" keeps.
    """

    pooling: str = "token+mean"
    known: float = 0.97

    def __post_init__(self) -> None:
        require(self.pooling in POOLINGS, f"pooling is {self.pooling!r}, must be one of {', '.join(POOLINGS)}")
        require(0 < self.known <= 1, "known must be above 0 and at most 1")


SPEEDS = ("quick", "full")


@dataclass(frozen=True)
class OutputSettings:
    """Results: the model file, and the folder of checkpoints with their record ("": in the run's folder).

    cores: of the chip, for which `trainer evaluate` models the time of a picture.
    """

    model: str = ""
    checkpoints: str = ""
    cores: int = 2

    def __post_init__(self) -> None:
        require(self.cores in (1, 2), "cores must be 1 or 2")


YOUNGER: dict[str, Any] = {
    "speed": "full",
    "quick": None,
    "data.memory": False,
    "data.views": 0,
    "data.saturation": 0.0,
    "data.balance": "off",
    "teacher.size": 0,
    "teacher.training.sizes": [],
    "teacher.training.coarse": 0.0,
    "student.sizes": [],
    "student.coarse": 0.0,
    "student.weights": "",
    "recovery.sizes": [],
    "recovery.coarse": 0.0,
}


@dataclass(frozen=True)
class Config:
    """A whole configuration; sections are named as in the TOML file. Without a teacher, students learn from labels.

    speed: "full" trains the student, "quick" only a head on the features of student.weights.
    """

    seed: int
    data: DataSettings
    model: ModelSettings
    student: StudentPhase
    recovery: RecoveryPhase
    teacher: TeacherSettings | None = None
    distillation: DistillationSettings | None = None
    speed: str = "full"
    quick: QuickSettings | None = None
    ternary: TernarySettings = field(default_factory=TernarySettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    source: Path = field(default=Path("configuration"), compare=False)

    def __post_init__(self) -> None:
        # Seeds of steps and epochs are multiples of it, which must fit 63 bits.
        require(0 <= self.seed < 1 << 31, f"seed must be from 0 to {(1 << 31) - 1}")
        require(self.speed in SPEEDS, f"speed is {self.speed!r}, must be one of {', '.join(SPEEDS)}")
        if self.speed == "quick":
            require(bool(self.student.weights), "[student] weights is missing, which speed = quick starts from")
        for one, other in (("teacher", "distillation"), ("distillation", "teacher")):
            needed = getattr(self, one) is None or getattr(self, other) is not None
            require(needed, f"[{other}] is missing, which [{one}] needs")

    @property
    def name(self) -> str:
        """The configuration's file name without its ending."""
        return self.source.stem

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, without their source."""
        values = dataclasses.asdict(self)
        del values["source"]
        return values

    def balanced(self, balanced: bool) -> "Config":
        """The same with data.balance as it works out for the pictures."""
        return dataclasses.replace(self, data=dataclasses.replace(self.data, balance="on" if balanced else "off"))

    def shaping(self) -> dict[str, Any]:
        """The settings that determine the weights: a resumed run must have the same."""
        values = self.settings()
        del values["output"]
        for name in ("threads", "checkpoint_minutes", "table", "device"):
            del values["compute"][name]
        del values["data"]["cache_gb"]
        # Where they do nothing, younger settings leave runs that older versions began as they are.
        for path, nothing in YOUNGER.items():
            *sections, name = path.split(".")
            section: Any = values
            for key in sections:
                section = (section or {}).get(key)
            if section and section.get(name) == nothing and name in section:
                del section[name]
        return values


def parse_toml(text: str) -> dict[str, Any]:
    """tomllib.loads; ValueError also for what is nested too deep, or a number of thousands of digits."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("lists or tables are nested too deep") from None
    except ValueError:
        raise ValueError("a number has thousands of digits") from None


def override(values: dict[str, Any], text: str) -> None:
    """Apply "section.key=value" to a configuration's plain values; the value is TOML, or else a text."""
    path, equals, value = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise TrainerError(f"{text!r} is not of the form section.key=value")
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        require(isinstance(values, dict), f"{text}: {key} is not a section")
    values[keys[-1]] = parsed


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read a configuration and apply `changes` ("section.key=value").

    Raises TrainerError that names the file and the section, key or line.
    """
    try:
        values = parse_toml(path.read_text())
        for change in changes:
            override(values, change)
        config = build(Config, values)
    except OSError as error:
        raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TrainerError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise TrainerError(f"{path}: {error}") from None
    return dataclasses.replace(config, source=path)
