# SPDX-License-Identifier: MIT
"""What pictures are taken for: counted against a loop, and readable for two classes as for 200."""

import numpy as np
import pytest

from trainer.model.confusion import Confusion


def random_case(classes, count, seed=1):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    found = np.where(rng.random(count) < 0.6, targets, rng.integers(0, classes, count))
    return tuple(f"c{index}" for index in range(classes)), targets, found


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_counts_and_accuracies(classes):
    labels, targets, found = random_case(classes, 400)
    confusion = Confusion.of(labels, targets, found)
    pairs = list(zip(targets.tolist(), found.tolist(), strict=True))
    for i in range(classes):
        for j in range(classes):
            assert confusion.matrix[i, j] == pairs.count((i, j))
    rights = [100 * np.mean(found[targets == i] == i) for i in range(classes)]
    assert confusion.by_class == pytest.approx(rights)
    assert confusion.balanced == pytest.approx(np.mean(rights))
    assert confusion.top1 == pytest.approx(100 * np.mean(targets == found))
    values = confusion.as_json()
    assert values["balanced"] == round(float(np.mean(rights)), 2)
    named = {(a, b): n for a, b, n in values["mistakes"]}
    if classes <= 10:
        assert sum(named.values()) == (targets != found).sum()
    assert len(named) <= 100
    assert all(n == pairs.count((labels.index(a), labels.index(b))) for (a, b), n in named.items())


def test_a_large_class_hides_nothing():
    """The issue's case: of 400, 20 and 20 pictures nearly all are taken for the large class."""
    matrix = np.array([[400, 0, 0], [18, 0, 2], [19, 1, 0]])
    confusion = Confusion(("cat", "dog", "newt"), matrix)
    assert round(confusion.top1, 1) == 90.9
    assert round(confusion.balanced, 1) == 33.3
    assert confusion.lines() == [
        "balanced accuracy 33.33 % (mean of the classes)",
        "          right  taken for  cat  dog  newt",
        "  cat   100.0 %             400    0     0",
        "  dog     0.0 %              18    0     2",
        "  newt    0.0 %              19    1     0",
    ]


def test_a_class_without_pictures_counts_for_nothing():
    confusion = Confusion(("a", "b", "c"), np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]))
    assert confusion.by_class == [75.0, None, 100.0]
    assert confusion.balanced == 87.5
    assert "  b        -             0  0  0" in confusion.lines()


def test_of_200_classes_the_worst_are_named():
    matrix = np.diag([10] * 200)
    matrix[7] = 0
    matrix[7, 9], matrix[7, 7] = 8, 2
    matrix[3, 4], matrix[3, 3] = 3, 7
    labels = tuple(f"thing {index}" for index in range(200))
    lines = Confusion(labels, matrix).lines()
    assert len(lines) == 3 and max(map(len, lines)) < 160
    assert lines[1].startswith("  least often right: thing 7 20 % of 10, thing 3 70 % of 10, thing 0 100 % of 10")
    assert lines[2] == "  taken most often: thing 7 for thing 9 8x, thing 3 for thing 4 3x"
    assert Confusion(labels, np.diag([1] * 200)).lines()[2] == "  taken most often: none wrong"


def test_labels_of_any_kind_keep_the_columns():
    labels = ("a label of more than twenty letters", "line\nbreak", "x")
    lines = Confusion(labels, np.diag([5, 12345, 7])).lines()[1:]
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4 and "line break" in lines[2]
