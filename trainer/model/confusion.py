# SPDX-License-Identifier: MIT
"""What pictures are taken for: accuracy by class, balanced accuracy, and the pairs that are confused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.data import Pictures
from trainer.errors import one_line
from trainer.model.predict import predictions

WHOLE = 10  # classes, of which the whole matrix is printed; of more only the worst
NAMED = 5  # classes and pairs that are printed then
KEPT = 100  # pairs in a record: all of 10 classes
LONGEST = 20  # letters of a label


def percent(hits: np.ndarray) -> float:
    """Share of hits in percent, two digits."""
    return round(100 * float(np.mean(hits)), 2)


def confusion_matrix(targets: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Counts int64 [class][taken for]."""
    return np.bincount(targets * classes + found, minlength=classes * classes).reshape(classes, classes)


def shown(label: str, longest: int = LONGEST) -> str:
    """A label for a column of a terminal."""
    label = one_line(label)
    return label if len(label) <= longest else label[: longest - 1] + "~"


@dataclass(frozen=True, eq=False)
class Confusion:
    """matrix: counts int64 [class][taken for]."""

    labels: Sequence[str]
    matrix: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[str], targets: np.ndarray, found: np.ndarray) -> "Confusion":
        """targets, found: int64 [pictures], the classes that pictures have and are taken for."""
        return cls(labels, confusion_matrix(targets, found, len(labels)))

    @classmethod
    def of_model(cls, model: nn.Module, pictures: Pictures) -> "Confusion":
        """What a model takes pictures for."""
        found = torch.cat(list(predictions(model, pictures))).argmax(1)
        return cls.of(pictures.labels, pictures.targets.numpy(), found.numpy())

    @property
    def top1(self) -> float:
        """Accuracy in percent, not rounded."""
        return 100 * (int(np.trace(self.matrix)) / max(int(self.matrix.sum()), 1))

    @property
    def by_class(self) -> list[float | None]:
        """Accuracy of each class in percent, not rounded; None for a class without pictures."""
        counts = self.matrix.sum(1)
        return [100 * (int(self.matrix[i, i]) / int(count)) if count else None for i, count in enumerate(counts)]

    @property
    def balanced(self) -> float:
        """Mean accuracy of the classes in percent, not rounded: a class counts the same with few pictures as with
        many."""
        return float(np.mean([value for value in self.by_class if value is not None]))

    def pairs(self, most: int) -> list[tuple[int, int, int]]:
        """(class, taken for, pictures) of the pairs that are confused most often."""
        wrong = self.matrix * (1 - np.eye(len(self.matrix), dtype=int))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = (divmod(int(flat), len(wrong)) for flat in order)
        return [(row, column, int(wrong[row, column])) for row, column in places if wrong[row, column]]

    def as_json(self) -> dict[str, Any]:
        """Plain values; mistakes: [class, taken for, pictures], the most frequent ones."""
        values = (None if value is None else round(value, 2) for value in self.by_class)
        return {
            "top1": round(self.top1, 2),
            "balanced": round(self.balanced, 2),
            "by_class": dict(zip(self.labels, values, strict=True)),
            "mistakes": [[self.labels[i], self.labels[j], count] for i, j, count in self.pairs(KEPT)],
        }

    def lines(self) -> list[str]:
        """Readable lines: balanced accuracy, then the matrix, or the worst of many classes."""
        named = f"balanced accuracy {self.balanced:.2f} % (mean of the classes)"
        return [named, *(self.whole() if len(self.labels) <= WHOLE else self.worst())]

    def whole(self) -> list[str]:
        """The matrix, a line for each class."""
        names = [shown(label) for label in self.labels]
        first = max(map(len, names))
        # A column is wide enough for its numbers, and shortens its label.
        widths = [max(min(len(name), 8), len(str(self.matrix[:, j].max()))) for j, name in enumerate(names)]
        heads = (f"{shown(label, width):>{width}}" for label, width in zip(self.labels, widths, strict=True))
        rows = [f"  {'':{first}}    right  taken for  {'  '.join(heads)}"]
        for name, value, counts in zip(names, self.by_class, self.matrix, strict=True):
            right = "      -" if value is None else f"{value:5.1f} %"
            cells = (f"{count:>{width}}" for count, width in zip(counts, widths, strict=True))
            rows.append(f"  {name:{first}}  {right}             {'  '.join(cells)}")
        return rows

    def worst(self) -> list[str]:
        """The classes that are recognised least often, and the pairs that are confused most often."""
        known = [(value, i) for i, value in enumerate(self.by_class) if value is not None]
        classes = (
            f"{shown(self.labels[i])} {value:.0f} % of {self.matrix[i].sum()}" for value, i in sorted(known)[:NAMED]
        )
        pairs = (f"{shown(self.labels[i])} for {shown(self.labels[j])} {n}x" for i, j, n in self.pairs(NAMED))
        return [f"  least often right: {', '.join(classes)}", f"  taken most often: {', '.join(pairs) or 'none wrong'}"]
