# SPDX-License-Identifier: MIT
"""Where the shipped files lie."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
CHECKPOINTS = ROOT / "trainer" / "checkpoints"


@dataclass(frozen=True)
class Files:
    """What is shipped: the model file (SPEC 10), and beside the trainer what it was made from."""

    model: Path = MODEL
    checkpoints: Path = CHECKPOINTS

    @property
    def student(self) -> Path:
        """The student's fp16 checkpoint."""
        return self.checkpoints / "student.fp16.safetensors"

    @property
    def teacher(self) -> Path:
        """The teacher's fp16 checkpoint."""
        return self.checkpoints / "teacher.fp16.safetensors"

    @property
    def record(self) -> Path:
        """How the model was made."""
        return self.checkpoints / "record.json"
