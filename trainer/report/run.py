# SPDX-License-Identifier: MIT
"""The files of a run: settings, logs, checkpoints, model file, evaluation."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.config import Config, load_config
from trainer.errors import TrainerError, require
from trainer.model.student import Student
from trainer.model.teacher import Teacher
from trainer.paths import Files
from trainer.settings import build
from trainer.training.manifest import PHASES, SETTINGS
from trainer.training.pipeline import files_of
from trainer.training.restore import load_student, load_teacher

Log = list[dict[str, float]]


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file."""
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise TrainerError(f"{path}: cannot be read ({error})") from None
    require(isinstance(values, dict), f"{path}: must be a JSON object")
    return values


def read_log(path: Path) -> Log | None:
    """The rows that trainer.training.loop wrote, one for each epoch; None where there are none."""
    if not path.exists():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if row["epoch"] and row["loss"] is not None] or None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{path}: not a log of this trainer ({error})") from None


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. record, control: written by `trainer train` and `trainer control`, {} if missing."""

    directory: Path
    config: Config
    files: Files
    record: dict[str, Any] = field(default_factory=dict)
    control: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path, checkpoints: Path | None = None, config: Path | None = None) -> "RunFolder":
        """Settings come from `config`, by default from the run's record; a folder of checkpoints with a record will do.

        Raises TrainerError for a folder that is no run.
        """
        require(directory.is_dir(), f"{directory}: no such folder; `trainer train --run {directory}` makes a run")
        noted = read_json(directory / SETTINGS) or (read_json(directory / "record.json") or {}).get("configuration")
        if noted is None:
            raise TrainerError(
                f"{directory}: no run, neither {SETTINGS} nor record.json is in it; `trainer train` makes both"
            )
        settings = load_config(config) if config else cls.configured(noted, directory)
        files = files_of(settings, directory)
        if checkpoints:
            files = Files(files.model, checkpoints)
        elif not files.student.exists() and (directory / files.student.name).exists():
            files = Files(files.model, directory)
        return cls(directory, settings, files, read_json(files.record) or {}, read_json(files.control_record) or {})

    @staticmethod
    def configured(noted: dict[str, Any], directory: Path) -> Config:
        """The configuration of noted settings, named like the folder."""
        try:
            return replace(build(Config, noted), source=Path(f"{directory.resolve().name}.toml"))
        except TrainerError as error:
            raise TrainerError(f"{directory}: settings of another version of this trainer: {error}") from None

    @property
    def name(self) -> str:
        """The name of its configuration."""
        return self.config.name

    @property
    def model(self) -> Path | None:
        """The model file: as the settings say, or the only one in the run's folder; None without."""
        if self.files.model.exists():
            return self.files.model
        checkpoints = (".fp16.safetensors", ".fp32.safetensors")
        others = [path for path in self.directory.glob("*.safetensors") if not path.name.endswith(checkpoints)]
        return others[0] if len(others) == 1 else None

    def logs(self) -> dict[str, Log]:
        """Epochs of each phase with a log; in a fresh clone, which has no logs, from the record."""
        recorded = {**self.record.get("epochs_log", {}), "control": self.control.get("epochs_log")}
        found = {name: read_log(self.directory / f"{name}.jsonl") or recorded.get(name) for name in PHASES}
        return {name: rows for name, rows in found.items() if rows}

    def student(self) -> Student:
        """The calibrated student; if it is missing, TrainerError says what makes it."""
        path = self.files.student
        require(
            path.exists(),
            f"{path}: not found; `trainer train` makes it when all phases are done, --checkpoints names its folder",
        )
        student = load_student(path)
        require(student.calibrated, f"{path}: has no activation scales; `trainer train` makes one that has")
        return student

    def teacher(self) -> Teacher | None:
        """The teacher, None where it is not kept."""
        path = self.files.teacher
        return load_teacher(path).requires_grad_(False) if path.exists() else None

    def evaluation(self, path: Path, student: Student) -> dict[str, Any] | None:
        """What `trainer evaluate` wrote to `path`, if it is about this student and has a confusion matrix."""
        values = read_json(path)
        if values is None or not values.get("confusion") or values.get("labels") != list(student.blueprint.labels):
            return None
        if path.stat().st_mtime < self.files.student.stat().st_mtime:
            return None
        recorded = self.record.get("test_top1", {}).get("after recovery")
        measured = values.get("student_top1")
        if None not in (recorded, measured) and abs(recorded - measured) > 0.01:
            return None
        return values
