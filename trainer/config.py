"""The settings of a run: a TOML file, checked whole before anything starts."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from trainer.errors import TrainerError
from trainer.student import Architecture


@dataclass(frozen=True)
class DataSettings:
    """validation: pictures held out of the training set, from its end."""

    validation: int


@dataclass(frozen=True)
class DistillationSettings:
    """temperature of the Kullback-Leibler term; label_weight of the cross-entropy beside it."""

    temperature: float
    label_weight: float


@dataclass(frozen=True)
class Phase:
    """One training run. learning_rate is OneCycle's maximum, reached after the part `warmup` of all steps."""

    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.warmup < 1:
            raise TrainerError("epochs and batch must be at least 1, warmup between 0 and 1")


@dataclass(frozen=True)
class TeacherPhase(Phase):
    """layers, channels: blocks and channels of each of the four stages."""

    layers: list[int]
    channels: list[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.layers) != 4 or len(self.channels) != 4:
            raise TrainerError("layers and channels must have four numbers each")


@dataclass(frozen=True)
class StudentPhase(Phase):
    """full_precision_epochs: of the epochs, those before the weights become ternary."""

    full_precision_epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.full_precision_epochs < self.epochs:
            raise TrainerError(f"full_precision_epochs must be from 0 to {self.epochs - 1} (epochs - 1)")


@dataclass(frozen=True)
class RecoveryPhase(Phase):
    """calibration: training pictures that choose the activation scales."""

    calibration: int


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
    for key in values.keys() - types.keys():
        raise TrainerError(f"{where}{key} is no setting; there are {', '.join(types)}")
    for key in types.keys() - values.keys() - optional:
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
