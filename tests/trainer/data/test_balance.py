# SPDX-License-Identifier: MIT
"""Classes with few pictures are drawn as often as those with many, alike in every process and after resuming."""

from collections import Counter

import numpy as np
import pytest
import torch

from tests.photos import photograph
from trainer.data import DataSettings, open_data
from trainer.data.advice import unevenness
from trainer.data.base import drawn_evenly
from trainer.data.folder import FolderPictures
from trainer.data.loaded import LoadedPictures
from trainer.errors import TrainerError

COUNTS = {"checker": 14, "circle": 4, "gradient_red": 3}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """21 photos, most of one class; read only."""
    root = tmp_path_factory.mktemp("uneven")
    for label, count in COUNTS.items():
        (root / label).mkdir()
        for number in range(count):
            photograph(label, number, 48, 40).save(root / label / f"{number}.png")
    return root


def settings(root, **changes):
    values = dict(source="folder", path=str(root), size=16, channels=3, validation=3, workers=0)
    return DataSettings(**values | changes)


def opened(root, memory, **changes):
    if memory:
        return LoadedPictures.open(root, settings(root, memory=True, **changes))
    return FolderPictures.open(root, settings(root, **changes))


def labels_of(batches) -> list[int]:
    return torch.cat([batch.labels for batch in batches]).tolist()


@pytest.mark.parametrize(("memory", "changes"), [(False, {}), (True, {}), (True, {"views": 3})])
def test_an_epoch_has_every_class_equally_often(uneven, memory, changes):
    pictures = opened(uneven, memory, **changes)
    assert pictures.balanced
    for epoch in range(3):
        assert Counter(labels_of(pictures.batches(7, 1, epoch))) == {0: 7, 1: 7, 2: 7}
    plain = opened(uneven, memory, balance="off", **changes)
    assert Counter(labels_of(plain.batches(7, 1, 0))) == {0: 14, 1: 4, 2: 3}


@pytest.mark.parametrize(("memory", "changes"), [(False, {}), (True, {}), (True, {"views": 3})])
def test_processes_and_resumed_runs_see_the_same(uneven, memory, changes):
    pictures = opened(uneven, memory, **changes)
    whole = list(pictures.batches(6, 1, 0))
    resumed = list(pictures.batches(6, 1, 0, start=2))
    assert torch.equal(resumed[0].images, whole[2].images)
    for rank in (0, 1):
        for part, batch in zip(pictures.batches(6, 1, 0, rank=rank, world=2), whole, strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
            assert torch.equal(part.labels, batch.labels[rank::2])
    if changes:
        for batch in whole:
            assert torch.equal(pictures.augmented(batch.keys), batch.images)
            assert torch.equal(pictures.targets[batch.keys // 3], batch.labels)


@pytest.mark.parametrize("memory", [False, True])
def test_a_picture_that_comes_twice_is_augmented_in_two_ways(uneven, memory):
    batches = list(opened(uneven, memory).batches(7, 1, 0))
    images = torch.cat([batch.images for batch in batches]).numpy()
    rare = images[np.array(labels_of(batches)) == 2]
    assert len(rare) == 7 > COUNTS["gradient_red"]
    assert len({image.tobytes() for image in rare}) == 7


def test_every_picture_of_a_large_class_comes_in_turn():
    targets = torch.tensor([0] * 50 + [1] * 3 + [3] * 7)  # class 2 has none
    seen = Counter()
    sizes = Counter()
    for epoch in range(40):
        chosen = drawn_evenly(targets, torch.Generator().manual_seed(epoch))
        assert len(chosen) == 60
        counts = Counter(targets[chosen].tolist())
        assert set(counts.values()) == {20}
        own = Counter(index for index in chosen.tolist() if index >= 50)
        assert max(own.values()) - min(own[index] for index in (50, 51, 52)) <= 5
        assert {own[index] for index in (50, 51, 52)} == {6, 7}, "in turn, not at random"
        seen.update(chosen.tolist())
        # 61 pictures: one class gets one more, not always the same.
        more = drawn_evenly(torch.cat([targets, torch.tensor([0])]), torch.Generator().manual_seed(epoch))
        sizes.update([max(Counter(torch.cat([targets, torch.tensor([0])])[more].tolist()).items(), key=lambda i: i[1])])
    assert set(seen) == set(range(60))
    assert len(sizes) == 3


@pytest.mark.parametrize(
    ("counts", "balance", "expected"),
    [
        ((30, 10), "auto", False),
        ((31, 10), "auto", True),
        ((31, 10), "off", False),
        ((10, 10), "on", True),
        ((10, 10), "auto", False),
    ],
)
def test_over_three_times_as_many_are_uneven(counts, balance, expected):
    assert settings("x", balance=balance).balances(counts) is expected


def test_it_is_said_in_one_line(uneven):
    line = unevenness(opened(uneven, False))
    assert line == (
        "uneven: 14 pictures of checker, 3 of gradient_red; classes weigh the same in training (data.balance=off: "
        "pictures do)"
    )
    assert unevenness(opened(uneven, False, balance="off")).endswith(
        "; what is rare is recognised less often (data.balance)"
    )
    assert unevenness(opened(uneven, False).picked([0, 1, 14, 18])) == ""
    assert "\n" not in line


def test_the_training_part_decides(uneven):
    training, _ = open_data(settings(uneven, validation=3))
    assert training.balanced and len(training) == 18


def test_mistakes_are_named():
    with pytest.raises(TrainerError, match="balance is 'yes', must be one of auto, on, off"):
        settings("x", balance="yes")
    with pytest.raises(TrainerError, match="balance = on needs source = folder"):
        DataSettings(source="fashion_mnist", size=28, channels=1, validation=9, balance="on")
