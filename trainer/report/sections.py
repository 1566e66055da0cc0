# SPDX-License-Identifier: MIT
"""A run as one HTML page: learning curves, weights, activations, mistakes."""

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data import Pictures, open_data, open_test
from trainer.errors import TrainerError
from trainer.files import write_atomically
from trainer.model.confusion import Confusion, confusion_matrix, percent
from trainer.model.student import Student
from trainer.model.teacher import Teacher
from trainer.modelfile.evaluate import all_logits
from trainer.modelfile.inspect import architecture_text, inspect
from trainer.paths import BUILD, CHECKPOINTS, READABLE, ROOT
from trainer.report import figures, measure
from trainer.report.page import Section, gallery, page, table, wide
from trainer.report.run import RunFolder

EXAMPLES = 16
EXAMPLE_PICTURES = 500  # test pictures that examples are chosen from, unless all are computed anyway
ATTENTION_PICTURES = 6
MATRIX_CLASSES = 30  # with more, the most confused pairs are listed instead
PAIRS = 30


@dataclass(frozen=True)
class Report:
    """The sections of a run's page. evaluation: what `trainer evaluate` wrote about this student, None without."""

    run: RunFolder
    student: Student
    teacher: Teacher | None
    validation: Pictures
    test: Pictures
    evaluation: dict[str, Any] | None

    @classmethod
    def open(cls, run: RunFolder, evaluation: Path) -> "Report":
        """Checkpoints and pictures; TrainerError names what is missing."""
        student, data = run.student(), run.config.data
        validation, test = open_data(data, READABLE)[1], open_test(data, READABLE)
        labels = student.blueprint.labels
        if (test.labels, test.size, test.channels) != (labels, student.architecture.img_size, student.in_chans):
            raise TrainerError(f"{run.files.student}: is for other classes or sizes than the data of {run.config.name}")
        return cls(run, student, run.teacher(), validation, test, run.evaluation(evaluation, student))

    @cached_property
    def predicted(self) -> tuple[Pictures, np.ndarray]:
        """Test pictures, and the student's logits on them [count, classes]."""
        pictures = self.test.spread(EXAMPLE_PICTURES) if self.evaluation else self.test
        return pictures, all_logits(self.student, pictures, "student")

    def facts(self) -> list[list[str]]:
        """Rows of the summary."""
        student, record, control = self.student, self.run.record, self.run.control
        tokens = student.vit.patch_embed.num_patches + 1
        weights = sum(layer.size for layer in measure.layer_trits(student))
        rows = [
            ["student", f"{student.blueprint.model.name}: {architecture_text(vars(student.architecture))}"],
            ["", f"{tokens} tokens, {weights:,} weights in matrices and norms"],
            ["teacher", self.teacher.blueprint.model.name if self.teacher else "not kept"],
        ]
        for name, log in self.run.logs().items():
            best = max(row["validation_top1"] for row in log)
            minutes = sum(row.get("seconds", 0.0) for row in log) / 60
            took = f", {minutes:.0f} minutes" if minutes >= 1 else ""
            rows.append([name, f"best validation top-1 {best:.2f} %, {len(log)} epochs{took}"])
        for name, value in {**record.get("test_top1", {}), **control.get("test_top1", {})}.items():
            rows.append([f"test, {name}", f"{value:.2f} %"])
        for key, name in (("teacher_top1", "FP32 teacher"), ("exported_top1", "exported file")):
            if self.evaluation and self.evaluation.get(key) is not None:
                rows.append([f"test, {name}", f"{self.evaluation[key]:.2f} %"])
        return rows

    def learning(self) -> Section:
        """Learning curves."""
        anchor, title, logs = "learning", "Learning curves", self.run.logs()
        if not logs:
            return Section(anchor, title, f"Left out: no logs (*.jsonl) in {self.run.directory}.")
        return Section(
            anchor,
            title,
            "Look for a validation top-1 that still rises at the end (more epochs would help) and for a drop where "
            "weights become ternary (dotted line) that recovers soon; compare losses only within a phase, as phases "
            "minimise different ones.",
            wide(figures.learning_curves(logs, self.run.config.student.full_precision_epochs)),
        )

    def trits(self) -> Section:
        """Ternary and zero share of each layer."""
        layers = measure.layer_trits(self.student)
        total = sum(layer.size for layer in layers)
        counts = np.sum([layer.counts for layer in layers], 0)
        return Section(
            "trits",
            "Ternary weights of each layer",
            f"{100 * counts.sum() / total:.4g} % of {total:,} matrix and norm weights are ternary and "
            f"{100 * counts[1] / max(counts.sum(), 1):.1f} % of those are 0 (white numbers: % of zeros); look for "
            "layers with far more zeros than the others, which have died, or far fewer.",
            wide(figures.trit_shares(layers)),
        )

    def file(self) -> Section:
        """The table of `trainer inspect`."""
        anchor, title, path = "file", "The model file", self.run.model
        if path is None:
            return Section(anchor, title, "Left out: not found; `trainer train` or `trainer export` makes it.")
        found = inspect(path)
        facts = "".join(f"<p>{escape(line)}</p>" for line in found.facts())
        return Section(
            anchor,
            title,
            "Counted from the bytes of the file: look for anything but trits that takes a large part of it.",
            table(found.rows()) + facts,
        )

    def weights(self) -> Section:
        """Histograms before and after."""
        return Section(
            "weights",
            "Weights before and after",
            "Latent weights, coloured by the trit they become: look for a dip at the thresholds (dashed, with the "
            "range over all channels shaded), which shows settled weights; weights in a peak there keep flipping.",
            wide(figures.histograms(measure.some_latents(self.student))),
        )

    def activations(self) -> Section:
        """Activation ranges against their scales."""
        images = measure.pictures_to_record(self.student, self.validation)
        ranges = measure.activation_ranges(self.student, images)
        worst = max(ranges, key=lambda entry: entry.saturated)
        return Section(
            "activations",
            "Activations against their scales",
            f"Float activations on {len(images)} validation pictures (line: smallest to largest, bar: 0.1 % to "
            "99.9 %) in units of what int8 holds at the layer's scale (dashed): look for bars that end far inside, "
            "which waste bits, or extend beyond, red where over 0.1 % is clipped; most in "
            f"{worst.name}, {100 * worst.saturated:.2g} %.",
            wide(figures.activation_ranges(ranges)),
        )

    def confusion(self) -> Section:
        """Confusion matrix, or the most confused pairs of many classes."""
        labels = list(self.student.blueprint.labels)
        if self.evaluation:
            matrix = np.array(self.evaluation["confusion"])
            source = "counted by `trainer evaluate`"
        else:
            pictures, logits = self.predicted
            matrix = confusion_matrix(pictures.targets.numpy(), logits.argmax(1), len(labels))
            source = "as the student classifies them"
        head = f"{matrix.sum():,} test pictures, {source}, {Confusion(labels, matrix).top1:.2f} % right: "
        if len(labels) > MATRIX_CLASSES:
            return Section(
                "confusion",
                "Most confused classes",
                head + "look for pairs that go wrong in both directions, which are hard to tell apart.",
                table(most_confused(matrix, labels)),
            )
        return Section(
            "confusion",
            "Confusion matrix",
            head + "look for dark cells off the diagonal, and whether their mirror images are dark, too.",
            wide(figures.confusion(matrix, labels)),
        )

    def attention(self) -> Section:
        """Where teacher and student look."""
        chosen = self.validation.picked(measure.one_of_each(self.validation.targets.numpy(), ATTENTION_PICTURES))
        images = torch.cat([batch.images for batch in chosen.ordered(ATTENTION_PICTURES)])
        maps: dict[str, Tensor] = {}
        found = measure.teacher_map(self.teacher, images) if self.teacher else None
        if found:
            maps[f"teacher: {found[0]}"] = found[1]
        maps["student: attention"] = measure.student_attention(self.student, images)
        without = "there is no checkpoint of the teacher" if self.teacher is None else "the teacher has no such map"
        kinds = {
            "attention": "Attention of the class token in the last block (mean of the heads), of both",
            "Grad-CAM": "Grad-CAM of the teacher's last feature map, and the student's attention of the class token "
            "in the last block (mean of the heads)",
        }
        what = kinds[found[0]] if found else f"The student's attention of the class token in the last block ({without})"
        names = [self.validation.labels[target] for target in chosen.targets.tolist()]
        return Section(
            "attention",
            "Where they look",
            f"{what}: look for bright places on the object itself rather than on the background, alike in each column.",
            wide(figures.attention(images.numpy(), names, {name: map_.numpy() for name, map_ in maps.items()})),
        )

    def examples(self) -> Section:
        """Pictures and what they are taken for."""
        pictures, logits = self.predicted
        wrong = 100 - percent(logits.argmax(1) == pictures.targets.numpy())
        return Section(
            "examples",
            "Examples",
            f"Test pictures with the student's answer, wrong ones first and the surest first ({wrong:.2f} % of "
            f"{len(pictures):,} are wrong): look for labels that you would dispute, and for what its mistakes share.",
            gallery(measure.examples(pictures, logits, EXAMPLES), self.student.blueprint.labels),
        )

    def html(self) -> str:
        """The page."""
        sections = (
            self.learning,
            self.trits,
            self.file,
            self.weights,
            self.activations,
            self.confusion,
            self.attention,
            self.examples,
        )
        return page(f"Run {self.run.name}", table(self.facts(), head=False), [section() for section in sections])


def most_confused(matrix: np.ndarray, labels: list[str]) -> list[list[str]]:
    """Rows of the pairs [class][taken for] with the most pictures, headings first."""
    rows = [["class", "taken for", "pictures", "of the class", "the other way"]]
    for row, column, count in Confusion(labels, matrix).pairs(PAIRS):
        share = f"{100 * count / matrix[row].sum():.1f} %"
        rows.append([labels[row], labels[column], f"{count}", share, f"{matrix[column, row]}"])
    return rows


def page_path(run: Path) -> Path:
    """The page of a run's folder: in it, or under build/ for folders of the tree, whose files are committed."""
    place = run.resolve()
    if place.is_relative_to(BUILD.resolve()) or not place.is_relative_to(ROOT):
        return run / "report.html"
    return BUILD / ("report.html" if place == CHECKPOINTS else f"report-{place.name}.html")


def write_report(
    directory: Path,
    output: Path | None = None,
    checkpoints: Path | None = None,
    config: Path | None = None,
    evaluation: Path = BUILD / "eval.json",
) -> Path:
    """Write the page of the run in `directory`, by default at page_path; returns the page's path.

    checkpoints: the folder of the checkpoints, otherwise as the configuration says or the run's own.
    """
    report = Report.open(RunFolder.open(directory, checkpoints, config), evaluation)
    path = output or page_path(directory)
    write_atomically(report.html().encode(), path)
    return path
