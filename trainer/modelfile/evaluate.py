# SPDX-License-Identifier: MIT
"""Accuracy of the exported bytes, run through the shipped package and kernels on the host simulator."""

import contextlib
import hashlib
import json
import multiprocessing
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from host_sim.setup.package import import_ftervit
from host_sim.setup.shell import processors
from trainer.data import Pictures
from trainer.errors import TrainerError
from trainer.files import commit
from trainer.model.confusion import Confusion, percent
from trainer.model.predict import predictions
from trainer.model.student import Student
from trainer.model.teacher import Teacher

if TYPE_CHECKING:
    from ftervit import VisionTransformer


def open_model(path: Path) -> "VisionTransformer":
    """The VisionTransformer of a model file; TrainerError for a file that the reader refuses."""
    try:
        return import_ftervit().VisionTransformer.load(str(path))
    except (OSError, ValueError) as error:
        raise TrainerError(str(error)) from None


# Pictures that a process takes at a time.
STRETCH = 32

_model: "VisionTransformer | None" = None  # of a forked process of `exported_logits`, set as it starts


def _take(model: "VisionTransformer") -> None:
    global _model
    _model = model


def _taken_logits(images: np.ndarray) -> np.ndarray:
    assert _model is not None
    return _logits(_model, images)


def _logits(model: "VisionTransformer", images: np.ndarray) -> np.ndarray:
    """int32 logits of uint8 pictures [count, height, width, channels]."""
    image = import_ftervit().Image
    _, height, width, channels = images.shape
    pictures = (model.preprocess(image(pixels.tobytes(), width, height, channels)) for pixels in images)
    return np.array([model(picture) for picture in pictures], np.int32)


def exported_logits(
    model: "VisionTransformer", pictures: Pictures, label: str = "exported file", processes: int | None = None
) -> np.ndarray:
    """int32 logits [count, classes] of pictures in order, each computed on one core as on a board with one.

    model: from `open_model`. Pictures.ordered has applied SPEC 3.2 to 3.4; the shipped kernels compute the rest.
    processes: that share the pictures (None: one for each core).
    """
    wanted = processors() if processes is None else processes
    stretches = (batch.images.numpy() for batch in pictures.ordered(STRETCH))
    # Forked, so that they share the model's file in memory; nothing of torch runs in them.
    count = max(1, min(wanted, -(-len(pictures) // STRETCH)))
    workers = multiprocessing.get_context("fork").Pool(count, _take, (model,)) if count > 1 else None
    found = []
    with (
        workers or contextlib.nullcontext(),
        tqdm(total=len(pictures), desc=label, leave=False, disable=None if label else True) as bar,
    ):
        for logits in workers.imap(_taken_logits, stretches) if workers else map(partial(_logits, model), stretches):
            found.append(logits)
            bar.update(len(logits))
    return np.concatenate(found)


def check_fits(model: "VisionTransformer", path: Path, pictures: Pictures) -> None:
    """Raise TrainerError unless the pictures have the model's classes, size and channels."""
    found = (tuple(model.labels), model.img_size, model.in_chans)
    if found != (pictures.labels, pictures.size, pictures.channels):
        wanted = (pictures.labels, pictures.size, pictures.channels)
        model_has, data_has = (
            f"{len(labels)} classes ({', '.join(labels[:3])} ...) at {size} x {size} x {channels}"
            for labels, size, channels in (found, wanted)
        )
        raise TrainerError(f"{path}: is for {model_has}, the data has {data_has}")


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent on `images` pictures, None for what was not measured.

    top5: of networks with more than five classes; control_top1: of the FP32 twin, from its record; agreement: the
    exported file's top-1 against the student's; equal_logits: pictures whose logits are the same bits;
    part: "test", or "validation" where the data has no test part;
    largest_logit_difference: in units of the file's last bit; modelled_ms: of a picture on an ESP32-S3 with
    modelled_cores cores, simulated; activation_bytes: of memory beside the weights, in that run; model_sha256: of the
    file; commit: of the repository, with "-changed" if files differ from it;
    confusion: [class][taken for], of the exported file or, without it, of the student; by_class: from it the accuracy
    of each class; balanced: their mean.
    """

    images: int
    labels: list[str]
    part: str = "test"
    teacher_top1: float | None = None
    student_top1: float | None = None
    student_top5: float | None = None
    control_top1: float | None = None
    exported_top1: float | None = None
    exported_top5: float | None = None
    agreement: float | None = None
    equal_logits: int | None = None
    largest_logit_difference: int | None = None
    images_per_s: float | None = None
    model_bytes: int | None = None
    modelled_ms: float | None = None
    modelled_cores: int | None = None
    activation_bytes: int | None = None
    model_sha256: str | None = None
    commit: str | None = None
    balanced: float | None = None
    by_class: dict[str, float | None] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)

    def table(self) -> str:
        """The result as readable lines."""
        rows = [f"{self.images} {self.part} pictures"]
        for name, value in (
            ("FP32 teacher", self.teacher_top1),
            ("FP32 twin, as recorded", self.control_top1),
            ("ternary student in torch", self.student_top1),
            ("exported file", self.exported_top1),
            ("exported file, top 5", self.exported_top5),
            ("agreement of file and student", self.agreement),
        ):
            if value is not None:
                rows.append(f"  {name:30} {value:6.2f} %")
        if self.images_per_s is not None:
            rows.append(f"  {self.model_bytes} bytes, {self.images_per_s:.0f} pictures/s on the host simulator")
        if self.modelled_ms is not None:
            cores = "one core" if self.modelled_cores == 1 else "two cores"
            rows.append(f"  {self.modelled_ms:.1f} ms for a picture on an ESP32-S3, modelled, on {cores}")
        if self.activation_bytes is not None:
            rows.append(f"  {self.activation_bytes} bytes of memory for activations and scratch")
        if self.equal_logits is not None:
            rows.append(
                f"  logits equal bit for bit on {self.equal_logits}, largest difference {self.largest_logit_difference}"
            )
        if self.confusion:
            rows += [f"  {line}" for line in Confusion(self.labels, np.array(self.confusion)).lines()]
        return "\n".join(rows)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def top5(logits: np.ndarray, targets: np.ndarray) -> float | None:
    """Pictures whose class is among the five best, in percent; None with so few classes that it says nothing."""
    if logits.shape[1] <= 5:
        return None
    # Of equal logits the lower index comes first (SPEC 9.4).
    best = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")[:, :5]
    return percent((best == targets[:, None]).any(1))


def recorded_control(path: Path) -> float | None:
    """Top-1 of the FP32 twin in percent, from its record, two digits; TrainerError for a damaged one."""
    try:
        return round(float(json.loads(path.read_text())["test_top1"]["FP32 control"]), 2)
    except (ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{path}: not the record of an FP32 twin ({error})") from None


def modelled(path: Path, cores: int) -> dict[str, Any]:
    """modelled_ms and activation_bytes of one picture on the simulated ESP32-S3; Failure without a toolchain.

    Python's own time is not counted.
    """
    from host_sim.chip.bench import TIMINGS, Row, network_run

    import_ftervit()
    import ternary

    try:
        run = network_run(TIMINGS["modelled"], path, None, cores)
    finally:
        ternary.use("host")
    seconds = Row(path.stem, cores, {"modelled": run}).seconds()
    return {
        "modelled_ms": round(1000 * seconds, 2),
        "modelled_cores": cores,
        "activation_bytes": run.activation_bytes,
    }


def all_logits(model: nn.Module, pictures: Pictures, label: str) -> np.ndarray:
    """Logits of a torch model on all pictures in order, [count, classes]."""
    return torch.cat(list(predictions(model, pictures, label=label))).numpy()


def counted(confusion: Confusion) -> dict[str, Any]:
    """The fields of an Evaluation that a confusion matrix gives."""
    values = confusion.as_json()
    return {"confusion": confusion.matrix.tolist(), "balanced": values["balanced"], "by_class": values["by_class"]}


def evaluate(
    pictures: Pictures, model: Path | None = None, student: Student | None = None, teacher: Teacher | None = None
) -> Evaluation:
    """Measure each of the three that is given; with file and student, also how well they agree."""
    targets = pictures.targets.numpy()
    result: dict[str, Any] = {"images": len(pictures), "labels": list(pictures.labels)}
    if model is not None:
        exported_model = open_model(model)
        check_fits(exported_model, model, pictures)
        started = time.perf_counter()
        exported = exported_logits(exported_model, pictures)
        result["images_per_s"] = round(len(pictures) / (time.perf_counter() - started), 1)
        result["model_bytes"] = model.stat().st_size
        result["exported_top1"] = percent(exported.argmax(1) == targets)
        result["exported_top5"] = top5(exported, targets)
        result["model_sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
        result["commit"] = commit()
        result |= counted(Confusion.of(pictures.labels, targets, exported.argmax(1)))
    if teacher is not None:
        result["teacher_top1"] = percent(all_logits(teacher, pictures, "teacher").argmax(1) == targets)
    if student is not None:
        logits = all_logits(student, pictures, "student")
        result["student_top1"] = percent(logits.argmax(1) == targets)
        result["student_top5"] = top5(logits, targets)
        if model is None:
            result |= counted(Confusion.of(pictures.labels, targets, logits.argmax(1)))
        if model is not None and student.calibrated:
            logits = logits * 2.0 ** student.fracs["head"]
            result["agreement"] = percent(exported.argmax(1) == logits.argmax(1))
            result["equal_logits"] = int((logits == exported).all(1).sum())
            result["largest_logit_difference"] = int(np.abs(logits - exported).max())
    return Evaluation(**result)
