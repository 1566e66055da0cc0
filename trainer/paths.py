# SPDX-License-Identifier: MIT
"""Paths of files and folders."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
CHECKPOINTS = ROOT / "trainer" / "checkpoints"
CONFIGS = ROOT / "trainer" / "configs"
BUILD = ROOT / "build"
TABLES = BUILD / "teacher_tables"  # see training.distill.teacher_table; any run may use them
READABLE = BUILD / "readable"  # which files of a folder are readable pictures, see data.check


def shown(path: Path) -> str:
    """A path as one types it in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@dataclass(frozen=True)
class Files:
    """Files of a run: the model file (SPEC 10), and the folder of checkpoints that it was made from."""

    model: Path = MODEL
    checkpoints: Path = CHECKPOINTS

    @property
    def student(self) -> Path:
        """The student's fp32 checkpoint."""
        return self.checkpoints / "student.fp32.safetensors"

    @property
    def teacher(self) -> Path:
        """The teacher's fp16 checkpoint."""
        return self.checkpoints / "teacher.fp16.safetensors"

    @property
    def record(self) -> Path:
        """How the model was made."""
        return self.checkpoints / "record.json"

    @property
    def control_record(self) -> Path:
        """How the control was made."""
        return self.checkpoints / "control.json"
