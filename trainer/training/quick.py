# SPDX-License-Identifier: MIT
"""Own photos in a minute: features of a trained student, and a head on them in closed form."""

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from trainer.config import Config, QuickSettings
from trainer.data import Pictures
from trainer.data.opening import Parts, open_parts
from trainer.errors import TrainerError
from trainer.files import commit, write_json
from trainer.integer.network import IntegerNetwork
from trainer.model.confusion import Confusion, percent
from trainer.model.predict import computing_on, device, limited_threads
from trainer.model.student import Student
from trainer.modelfile.export import Int8Head, export
from trainer.paths import READABLE, ROOT, Files
from trainer.training.manifest import Beginning, Inventory, begin, file_digest, locked, pictures_changes
from trainer.training.restore import load_student
from trainer.training.ridge import Ridge, fit_ridge

BATCH = 100  # pictures
FINEST = 16  # fractional bits of the logits
SHARPEST = 6  # powers of two by which scores are multiplied before they become probabilities


def features_of(network: IntegerNetwork, pictures: Pictures, pooling: str, mirrored: bool, title: str) -> Tensor:
    """SPEC 9.5 of all pictures in order, and with `mirrored` of their mirror images: float32 [1 or 2, count, F],
    integers."""
    where, versions = network.vit.pos_embed.device, [False, True] if mirrored else [False]
    found: list[list[Tensor]] = [[] for _ in versions]
    bar = tqdm(total=len(pictures) * len(versions), desc=title, unit=" pictures", leave=False, disable=None)
    with bar, torch.no_grad(), where:
        for batch in pictures.ordered(BATCH):
            images = batch.images.to(where)
            for part, flipped in zip(found, versions, strict=True):
                part.append(network.features(images.flip(2) if flipped else images, pooling).float().cpu())
                bar.update(len(images))
    return torch.stack([torch.cat(part) for part in found])


def int8_head(ridge: Ridge, labels: tuple[str, ...], pooling: str, targets: Tensor) -> tuple[Int8Head, int]:
    """A head of SPEC 4.8 from the closed form, and the fractional bits with which its logits are the form's scores.

    The head's frac is smaller: it makes the most of the probabilities of pictures that were left out.
    """
    weight, bias = ridge.weight.numpy(), ridge.bias.numpy()
    unit = np.abs(weight).max(1).clip(1e-12) / 127
    # The largest multiplier and the largest bias must fit 31 bits.
    room = min((2**31 - 1) / (unit.max() * 2**24), (2**30) / max(1e-12, np.abs(bias).max()))
    frac = min(FINEST, math.floor(math.log2(room)))
    head = Int8Head(
        labels,
        np.round(weight / unit[:, None]).astype(np.int8),
        np.round(unit * 2.0 ** (frac + 24)).astype(np.int32),
        np.round(bias * 2.0**frac).astype(np.int32),
        frac - sharpness(ridge.left_out, targets),
        pooling,
    )
    return head, frac


def sharpness(scores: Tensor, targets: Tensor) -> int:
    """The power of two that scores [count, classes] are best multiplied by before softmax."""
    losses = [torch.nn.functional.cross_entropy(scores * 2.0**power, targets).item() for power in range(SHARPEST + 1)]
    return losses.index(min(losses))


def threshold_of(best: np.ndarray, kept: float) -> int:
    """The largest threshold (SPEC 9.8) that keeps at least the part `kept` of pictures with these best logits."""
    return math.floor(np.sort(best)[math.floor((1 - kept) * len(best) + 1e-9)])


@dataclass(frozen=True)
class Quick:
    """What a quick training made. measured: by part, what its pictures are taken for; known: part of the pictures that
    chose the threshold which is kept, in percent; where: what these pictures are."""

    head: Int8Head
    ridge: float
    measured: dict[str, Confusion]
    known: float
    where: str


def fit(network: IntegerNetwork, parts: Parts, settings: QuickSettings, mirrored: bool, balanced: bool) -> Quick:
    """Fit a head to the training pictures; balanced: classes weigh the same, otherwise pictures do.

    Validation pictures choose the threshold; without any, each training picture does, by a head that was fitted to the
    others.
    """
    training = parts.training
    features = features_of(network, training, settings.pooling, mirrored, "features")
    ridge = fit_ridge(features, training.targets, len(training.labels), balanced)
    head, frac = int8_head(ridge, tuple(training.labels), settings.pooling, training.targets)
    measured: dict[str, Confusion] = {}
    if parts.validation is None:
        scores, targets, where = (ridge.left_out * 2.0**frac).numpy(), training.targets, "left out one by one"
    else:
        own = features_of(network, parts.validation, settings.pooling, False, "validation")
        scores, targets, where = head(own[0].numpy()), parts.validation.targets, "validation part"
    measured["validation"] = Confusion.of(training.labels, targets.numpy(), scores.argmax(1))
    threshold = threshold_of(scores.max(1), settings.known)
    head = replace(head, threshold=threshold)
    if parts.test is not None:
        own = features_of(network, parts.test, settings.pooling, False, "test")
        found = head(own[0].numpy()).argmax(1)
        measured["test"] = Confusion.of(training.labels, parts.test.targets.numpy(), found)
    return Quick(head, ridge.ridge, measured, percent(scores.max(1) >= threshold), where)


def backbone(config: Config) -> Student:
    """The student whose features are used; TrainerError unless it computes in integers on the data's pictures."""
    name = config.student.weights
    student = load_student(ROOT / name)
    if not student.calibrated:
        raise TrainerError(f"{name}: is not calibrated; `trainer train` with student.epochs=0 calibrates it")
    size, channels = student.blueprint.img_size, len(student.pixels.mean)
    if (size, channels) != (config.data.size, config.data.channels):
        raise TrainerError(
            f"{name}: is for pictures of {size} x {size} x {channels}; set data.size={size} data.channels={channels}, "
            f"or speed=full and another student.weights"
        )
    return student


def train_quick(config: Config, run: Path, files: Files, beginning: Beginning = "resume") -> Files:
    """Make the model file of a configuration in closed form."""
    settings, started = config.quick, time.monotonic()
    if settings is None:
        raise TrainerError(f"{config.source}: [quick] is missing, which speed = quick needs")
    with locked(run), limited_threads(config.compute.threads), computing_on(config.compute.device) as where:
        student = backbone(config)
        parts = open_parts(config.data, READABLE)
        parts.advise()
        print(where)
        inventory = Inventory.of(parts.training, parts.validation or parts.training.subset(0, 0))
        for change in pictures_changes(run, inventory):
            print(f"{run}: pictures have changed since the last run: {change}; starting anew", file=sys.stderr)
        begin(run, config, inventory, beginning)
        student.to(device(student))
        balanced = config.data.balance != "off"
        found = fit(IntegerNetwork.of(student, student.fracs), parts, settings, config.data.hflip > 0, balanced)
        student.cpu()
        size = export(student, files.model, found.head)
        seconds = round(time.monotonic() - started, 1)
        record: dict[str, Any] = {
            "speed": "quick",
            "configuration": config.settings(),
            "backbone": {"file": config.student.weights, "sha256": file_digest(ROOT / config.student.weights)},
            "pictures": {label: int(n) for label, n in zip(parts.training.labels, counts(parts.training), strict=True)},
            "ridge": found.ridge,
            **{f"{part}_top1": round(confusion.top1, 2) for part, confusion in found.measured.items()},
            "classes": {part: confusion.as_json() for part, confusion in found.measured.items()},
            "threshold": found.head.threshold,
            "known_kept": found.known,
            "seconds": seconds,
            "model_bytes": size,
            "commit": commit(),
        }
        write_json(record, files.record)
    report(found, files, size, seconds)
    return files


def counts(pictures: Pictures) -> list[int]:
    """Pictures of each class."""
    return torch.bincount(pictures.targets, minlength=len(pictures.labels)).tolist()


def report(found: Quick, files: Files, size: int, seconds: float) -> None:
    """Print what was made."""
    for part, confusion in found.measured.items():
        where = f" ({found.where})" if part == "validation" else ""
        print("\n".join([f"{part} top-1 {confusion.top1:.2f} %{where}", *confusion.lines()]))
    print(f'threshold: {found.known:.1f} % of these pictures get a name, the others are "unknown"')
    print(f"{files.model}: {size} bytes, in {seconds:.0f} s; speed=full trains the whole network, for better results")
