# SPDX-License-Identifier: MIT
"""The settings of a run: a TOML file, checked whole before anything starts."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from trainer.errors import TrainerError
from trainer.student import Architecture


def require(condition: bool, what: str) -> None:
    """Refuse a setting."""
    if not condition:
        raise TrainerError(what)


@dataclass(frozen=True)
class DataSettings:
    """validation: pictures held out of the training set, from its end."""

    validation: int

    def __post_init__(self) -> None:
        require(self.validation >= 1, "validation must be at least 1")


@dataclass(frozen=True)
class DistillationSettings:
    """temperature of the Kullback-Leibler term; label_weight of the cross-entropy beside it."""

    temperature: float
    label_weight: float

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature must be above 0")
        require(self.label_weight >= 0, "label_weight must not be negative")


@dataclass(frozen=True)
class Phase:
    """One training run. learning_rate is OneCycle's maximum, reached after the part `warmup` of all steps."""

    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs must be at least 1")
        require(self.batch >= 1, "batch must be at least 1")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(0 < self.warmup < 1, "warmup must be between 0 and 1")
        require(self.weight_decay >= 0, "weight_decay must not be negative")


@dataclass(frozen=True)
class TeacherPhase(Phase):
    """layers, channels: blocks and channels of each of the four stages."""

    layers: list[int]
    channels: list[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "channels"):
            sizes = getattr(self, name)
            require(len(sizes) == 4 and min(sizes) >= 1, f"{name} must be four numbers from 1")


@dataclass(frozen=True)
class StudentPhase(Phase):
    """full_precision_epochs: of the epochs, those before the weights become ternary."""

    full_precision_epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        last = self.epochs - 1
        require(0 <= self.full_precision_epochs <= last, f"full_precision_epochs must be from 0 to {last} (epochs - 1)")


@dataclass(frozen=True)
class RecoveryPhase(Phase):
    """calibration: training pictures that choose the activation scales."""

    calibration: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.calibration >= 1, "calibration must be at least 1")


@dataclass(frozen=True)
class Config:
    """A whole configuration; sections are named as in the TOML file."""

    seed: int
    data: DataSettings
    teacher: TeacherPhase
    architecture: Architecture
    distillation: DistillationSettings
    student: StudentPhase
    recovery: RecoveryPhase
    source: Path = field(default=Path("configuration"), compare=False)

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, without where they came from."""
        values = dataclasses.asdict(self)
        del values["source"]
        return values


def checked(value: Any, kind: Any, name: str) -> Any:
    """`value` if it has the type `kind` (int, float, str or list[int]); a whole number is a float too."""
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if type(value) is list:
            return [checked(entry, item, name) for entry in value]
    elif type(value) is kind:
        return value
    wanted = {int: "a whole number", float: "a number", str: "a text"}.get(kind, "a list of whole numbers")
    raise TrainerError(f"{name} is {value!r}, must be {wanted}")


def build(kind: type, values: Any, name: str) -> Any:
    """An object of the settings class `kind` from a TOML table; errors name the section `name` and the key."""
    if not isinstance(values, dict):
        raise TrainerError(f"[{name}] must be a section")
    where = f"[{name}] " if name else ""
    types = {key: hint for key, hint in get_type_hints(kind).items() if hint is not Path}
    optional = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    for key in sorted(values.keys() - types.keys()):
        raise TrainerError(f"{where}{key} is no setting; there are {', '.join(types)}")
    for key in sorted(types.keys() - values.keys() - optional):
        raise TrainerError(f"{where}{key} is missing")
    arguments = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(types[key]):
            arguments[key] = build(types[key], value, key)
        else:
            arguments[key] = checked(value, types[key], where + key)
    try:
        return kind(**arguments)
    except TrainerError as error:
        raise TrainerError(f"{where}{error}") from None


def load_config(path: Path) -> Config:
    """Read a configuration; raises TrainerError that names the file and the section, key or line."""
    try:
        config = build(Config, tomllib.loads(path.read_text()), "")
    except OSError as error:
        raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TrainerError) as error:
        raise TrainerError(f"{path}: {error}") from None
    return dataclasses.replace(config, source=path)
