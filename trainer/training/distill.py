# SPDX-License-Identifier: MIT
"""Knowledge distillation from the frozen FP32 teacher, on timm's distillation task."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from timm.task import LogitDistillationTask
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from host_sim.setup.shell import lock
from trainer.config import DistillationSettings
from trainer.data import DataSettings, Pictures
from trainer.errors import TrainerError
from trainer.model.predict import autocast
from trainer.model.student import Student
from trainer.model.teacher import Teacher

TABLE_CHUNK = 64  # pictures of one forward; small convolutional nets are fastest in chunks that fit the cache


class LiveTeacher(nn.Module):
    """A teacher that computes its outputs, with the interface that timm's task expects, on uint8 pictures."""

    def __init__(self, teacher: Teacher, with_features: bool):
        super().__init__()
        self.teacher, self.with_features = teacher, with_features
        self.keys: Tensor | None = None
        self.whole: Tensor | None = None  # pictures of the data's size, where the student gets smaller ones
        self.pooled: Tensor | None = None

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        """Logits float [batch, classes]; with features, `pooled` then holds those of the batch."""
        images = images if self.whole is None else self.whole
        if not self.with_features:
            return self.teacher(images)
        self.pooled, logits = self.teacher.features(images)
        return logits

    def normalize_input(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """As timm's DistillationTeacher; teachers here normalise for themselves."""
        return images


class TeacherTable(LiveTeacher):
    """A teacher's logits for every augmented picture, looked up by Batch.keys instead of computed."""

    def __init__(self, teacher: Teacher, logits: np.ndarray):
        super().__init__(teacher, with_features=False)
        self.logits = logits  # float16 [variants, pictures, classes]

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        """Logits float32 [batch, classes] of the pictures that `keys` names; `images` gives the device alone."""
        assert self.keys is not None, "DistillationTask sets the keys of a batch first"
        picture, variant = np.divmod(self.keys.numpy(), len(self.logits))
        return torch.from_numpy(self.logits[variant, picture].astype(np.float32)).to(images.device)


def table_path(folder: Path, teacher: Teacher, data: DataSettings, pictures: Pictures, amp: bool = False) -> Path:
    """Path of the table of this teacher on these pictures, named by the digest of both. amp: see `autocast`."""
    values = asdict(data)
    del values["balance"], values["cache_gb"]  # they change none of the pictures
    digest = hashlib.sha256(json.dumps([asdict(teacher.blueprint), values, len(pictures), amp]).encode())
    for tensor in teacher.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    for part in pictures.ordered(TABLE_CHUNK):
        digest.update(part.images.numpy().tobytes())
    return folder / f"{digest.hexdigest()[:16]}.npy"


def teacher_table(path: Path, teacher: Teacher, pictures: Pictures, amp: bool = False) -> TeacherTable:
    """Open the table at `path`; compute it first, or the part that an interrupted run left."""
    if not path.exists():
        with lock(f"teacher-{path.stem}"):
            if not path.exists():
                make_table(path, teacher, pictures, amp)
    return TeacherTable(teacher, np.load(path, mmap_mode="r"))


def make_table(path: Path, teacher: Teacher, pictures: Pictures, amp: bool = False) -> None:
    """Compute the table at `path`, where it appears when complete; resumes an interrupted run if possible."""
    unfinished = path.with_suffix(".unfinished.npy")
    shape = pictures.variants, len(pictures), len(pictures.labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    logits = opened(unfinished, shape)
    if logits is None:
        write_empty(unfinished, shape, path)
        logits = np.lib.format.open_memmap(unfinished, "r+")
    with autocast(amp):
        fill_table(logits, teacher, pictures)
    unfinished.rename(path)


def write_empty(unfinished: Path, shape: tuple[int | None, ...], path: Path) -> None:
    """Write a table of NaN; TrainerError that names `path` where there is no room for it."""
    empty = path.with_suffix(".empty.npy")
    try:
        rows = np.lib.format.open_memmap(empty, "w+", np.float16, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a SIGBUS where mapped pages are written
            with open(empty, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, empty.stat().st_size)
        rows[:] = np.nan
        empty.rename(unfinished)
    except OSError as error:
        empty.unlink(missing_ok=True)
        raise TrainerError(f"{path}: cannot be written ({error.strerror})") from None


def opened(path: Path, shape: tuple[int | None, ...]) -> np.memmap | None:
    """The unfinished table to continue, or None if there is none or it is damaged."""
    try:
        found = np.lib.format.open_memmap(path, "r")  # "r+" would pad a truncated file
    except (OSError, ValueError):
        return None
    return np.lib.format.open_memmap(path, "r+") if (found.shape, found.dtype) == (shape, np.float16) else None


def fill_table(logits: np.memmap, teacher: Teacher, pictures: Pictures) -> None:
    """Compute the rows of logits [variants, pictures, classes] that are still NaN."""
    variants, count, _ = logits.shape
    where = next(teacher.parameters()).device
    todo = [variant for variant in range(variants) if np.isnan(logits[variant, -1, -1])]  # the last row is written last
    with torch.no_grad(), tqdm(total=len(todo) * count, desc="teacher's table", unit=" pictures", disable=None) as bar:
        for variant in todo:
            for start in range(0, count, TABLE_CHUNK):
                rows = torch.arange(start, min(start + TABLE_CHUNK, count))
                images = pictures.augmented(rows * variants + variant)
                logits[variant, rows[0] : rows[-1] + 1] = teacher(images.to(where)).float().cpu().numpy()
                bar.update(len(rows))
            logits.flush()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving distillation (arXiv 1907.09682): no projection between widths is needed.

    student, teacher: features [batch, F], F of each its own. The mean squared difference of the two matrices of inner
    products between the pictures of a batch, rows scaled to length 1, times the batch size.
    """
    matrices = (functional.normalize(features @ features.T) for features in (student, teacher))
    ours, theirs = matrices
    return (ours - theirs).square().sum() / len(student)


class DistillationTask(LogitDistillationTask):
    """timm's task on uint8 pictures, with an optional feature term.

    teacher: a LiveTeacher, with features where the settings give them a weight, or a TeacherTable.
    """

    def __init__(self, student: Student, teacher: LiveTeacher, settings: DistillationSettings):
        super().__init__(
            student_model=student,
            teacher_model=teacher.teacher.net,
            criterion=nn.CrossEntropyLoss(),
            distill_loss_weight=1.0,
            task_loss_weight=settings.label_weight,
            temperature=settings.temperature,
            verbose=False,
        )
        self.teacher = teacher
        self.feature_weight = settings.feature_weight
        # The module itself: torch.compile or DistributedDataParallel may wrap the one above.
        self.students = (student,)
        student.keep_features = self.feature_weight > 0

    def forward(
        self, images: Tensor, target: Tensor, keys: Tensor | None = None, whole: Tensor | None = None
    ) -> dict[str, Tensor]:
        """images: uint8 [batch, side, side, channels], what the student sees; target: int64 [batch]; keys: Batch.keys;
        whole: the same pictures for the teacher, where they differ."""
        self.teacher.keys, self.teacher.whole = keys, whole
        result = super().forward(images, target)
        self.teacher.whole = None
        if self.feature_weight:
            (student,) = self.students
            # Cleared: a student that holds them cannot be deep-copied.
            features, student.features = student.features, None
            assert features is not None and self.teacher.pooled is not None, "both forward passes keep their features"
            result["feature_loss"] = similarity_loss(features.float(), self.teacher.pooled.float())
            result["loss"] = result["loss"] + self.feature_weight * result["feature_loss"]
        return result
