# SPDX-License-Identifier: MIT
"""trainer.data over folders: layouts, labels, checks, splits, and the same pictures for any number of processes."""

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch

from tests.photos import CLASSES, photograph, write_broken, write_hidden, write_photos
from trainer.data import DataSettings, open_data, open_test
from trainer.data import check as checking
from trainer.data import folder as folders
from trainer.data.augment import Augmentation
from trainer.data.base import quotas
from trainer.data.decode import read_picture, square
from trainer.data.folder import FolderPictures
from trainer.data.listing import list_pictures, readable_names
from trainer.errors import TrainerError


def settings(root, **changes):
    return DataSettings(
        **(dict(source="folder", path=str(root), size=32, channels=3, validation=8, workers=0) | changes)
    )


def opened(root, **changes):
    return FolderPictures.open(root, settings(root, **changes))


def same(one, other):
    """Whether two sequences of batches hold the same."""
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in pairs)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 photos in four classes; read only."""
    return write_photos(tmp_path_factory.mktemp("photos"), 10)


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """train/, val/ and test/; read only."""
    return write_photos(tmp_path_factory.mktemp("parted"), 4, val=3, test=2)


def test_layout_of_class_folders(photos):
    training, validation = open_data(settings(photos))
    assert (len(training), len(validation), training.labels) == (32, 8, CLASSES)
    assert training.variants is None
    assert torch.bincount(validation.targets).tolist() == [2, 2, 2, 2]
    assert not set(training.files) & set(validation.files)
    assert open_test(settings(photos)).files == validation.files
    assert open_data(settings(photos))[1].files == validation.files


def test_layout_of_train_val_test(parted, tmp_path):
    training, validation = open_data(settings(parted, validation=0))
    assert (len(training), len(validation), len(open_test(settings(parted)))) == (16, 12, 8)
    training, validation = open_data(settings(parted, validation=4))
    assert (len(training), len(validation)) == (12, 4)
    assert {training.root.name, validation.root.name} == {"train"}
    # ImageNet's test/ has no classes.
    root = shutil.copytree(parted, tmp_path / "imagenet")
    for name in CLASSES:
        shutil.rmtree(root / "test" / name)
    assert open_test(settings(root)).root.name == "val"


def test_class_folders_named_train_and_val(tmp_path):
    for name in ("car", "train"):
        (tmp_path / name).mkdir()
        photograph("circle", 1, 60, 60).save(tmp_path / name / "1.jpg")
    assert opened(tmp_path).labels == ("car", "train")


def test_errors_name_the_folder(tmp_path, photos):
    with pytest.raises(TrainerError, match="nowhere: no such folder"):
        open_data(settings(tmp_path / "nowhere"))
    with pytest.raises(TrainerError, match="has no class folders, as "):
        open_data(settings(tmp_path))
    (tmp_path / "cat").mkdir()
    with pytest.raises(TrainerError, match="has only one class, cat"):
        open_data(settings(tmp_path))
    shutil.copytree(photos / "circle", tmp_path / "circle")
    with pytest.raises(TrainerError, match=r"cat: no pictures \(\.jpg"):
        open_data(settings(tmp_path))
    for name in ("empty.jpg", "text.png"):
        (tmp_path / "cat" / name).write_bytes(b"")
    with pytest.raises(TrainerError, match="cat: no readable pictures"):
        open_data(settings(tmp_path))
    with pytest.raises(TrainerError, match="has no val/, so validation must be at least 1"):
        open_data(settings(photos, validation=0))
    with pytest.raises(TrainerError, match="validation is 37, must be 1 to 36 of the 40 pictures"):
        open_data(settings(photos, validation=37))
    with pytest.raises(TrainerError, match=r"auto_augment 'nonsense' is not a timm policy"):
        open_data(settings(photos, auto_augment="nonsense"))


def test_train_and_val_must_have_the_same_classes(parted, tmp_path):
    root = shutil.copytree(parted, tmp_path / "parted")
    (root / "val" / "circle").rename(root / "val" / "disc")
    message = r"val: other classes than in .*train \(only in train: circle; only in val: disc\)"
    with pytest.raises(TrainerError, match=message):
        open_data(settings(root))
    shutil.rmtree(root / "test" / "checker")
    with pytest.raises(TrainerError, match=r"test: other classes .*\(only in train: checker\)"):
        open_test(settings(root))


def test_names_need_not_be_utf8(photos, tmp_path):
    root = tmp_path / os.fsdecode(b"photos \xe9")
    shutil.copytree(photos, root)
    (root / "circle" / "0.jpg").rename(root / "circle" / os.fsdecode(b"\xe9.jpg"))
    for _ in range(2):
        assert len(opened(root).check(tmp_path / "cache")) == 40


def test_hidden_files_are_ignored(photos, tmp_path, capsys):
    root = shutil.copytree(photos, tmp_path / "photos")
    write_hidden(root)
    write_hidden(root / "circle")
    assert opened(root).check().files == opened(photos).files
    assert capsys.readouterr().err == ""


def test_pictures_lie_at_any_depth_and_suffixes_in_any_case(tmp_path):
    for name in ("a/1.JPG", "a/x/y/2.Jpeg", "b/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photograph("circle", 1, 60, 60).save(tmp_path / name, "JPEG")
    listing = list_pictures(tmp_path)
    assert (listing.files, listing.targets) == (("a/1.JPG", "a/x/y/2.Jpeg", "b/3.jpg"), (0, 0, 1))


def test_broken_files_are_skipped_in_one_line(photos, tmp_path, capsys):
    root = shutil.copytree(photos, tmp_path / "photos")
    broken = write_broken(root / "circle")
    checked = opened(root).check()
    assert checked.files == opened(photos).files
    assert checked.check().files == checked.files
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{root}: skipped {len(broken)} files: circle/cut.jpg (image file is truncated" in lines[0]
    assert "circle/empty.jpg (empty), circle/float.tiff (floating-point pixels), .." in lines[0]


def test_verdicts_are_kept(photos, tmp_path, monkeypatch):
    root, cache = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "cache"
    write_broken(root / "circle")
    first = opened(root).check(cache)
    looked = []
    original = checking.looked_at
    monkeypatch.setattr(checking, "looked_at", lambda content: looked.append(len(content)) or original(content))
    assert opened(root).check(cache).files == first.files
    assert not looked
    # Mended and changed files are looked at again.
    shutil.copy(root / "circle" / "0.jpg", root / "circle" / "empty.jpg")
    (root / "checker" / "0.jpg").write_bytes(b"spoilt")
    again = opened(root).check(cache)
    assert len(looked) == 2
    assert set(again.files) ^ set(first.files) == {"circle/empty.jpg", "checker/0.jpg"}
    # So is everything by another Pillow, or when the file of verdicts is spoilt.
    (path,) = cache.glob("pictures-*.json")
    content = json.loads(path.read_text())
    for text in (json.dumps({**content, "pillow": "0"}), "spoilt", "[]", '{"files": 1}'):
        path.write_text(text)
        looked.clear()
        assert opened(root).check(cache).files == again.files
        assert len(looked) == 44


def test_an_interrupted_check_keeps_what_it_found(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "CHUNK", 8)
    original, looked = checking.looked_at, []

    def interrupted(content):
        looked.append(1)
        if len(looked) == 20:
            raise KeyboardInterrupt
        return original(content)

    monkeypatch.setattr(checking, "looked_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(photos).check(tmp_path)
    kept = json.loads(next(tmp_path.glob("pictures-*.json")).read_text())["files"]
    assert len(kept) == 19
    looked += [1] * 20  # past the interruption
    before = len(looked)
    assert len(opened(photos).check(tmp_path)) == 40
    assert len(looked) - before == 40 - 19


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_turns_bad_later_is_named(photos, tmp_path, workers):
    root = shutil.copytree(photos, tmp_path / "photos")
    pictures = opened(root, workers=workers).check()
    (root / "circle" / "3.jpg").write_bytes(b"spoilt")
    for batches in (pictures.ordered(4), pictures.batches(40, 0, 0)):
        with pytest.raises(TrainerError, match=r"^\S*circle/3\.jpg: not a readable picture \(not a picture\)$"):
            list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_replaced_later_is_named(photos, tmp_path, workers):
    """The run says what it is made from; another picture in its place would make that a lie."""
    root = shutil.copytree(photos, tmp_path / "photos")
    pictures = opened(root, workers=workers).check()
    shutil.copy(root / "checker" / "0.jpg", root / "circle" / "3.jpg")
    for batches in (pictures.ordered(4), pictures.batches(40, 0, 0)):
        with pytest.raises(TrainerError, match=r"^\S*circle/3\.jpg: replaced by another picture since the run began"):
            list(batches)


def test_a_flipped_bit_in_the_cache_of_verdicts_is_noticed(photos, tmp_path):
    """It would name pictures that nobody changed."""
    first = opened(photos).check(tmp_path)
    (path,) = tmp_path.glob("pictures-*.json")
    content = path.read_text()
    for digest in first.digests[::5]:
        path.write_text(content.replace(digest, digest[::-1]))
        assert opened(photos).check(tmp_path).digests == first.digests


def test_ordered_pictures_are_the_boards(photos):
    for channels in (1, 3):
        pictures = opened(photos, channels=channels)
        images = torch.cat([batch.images for batch in pictures.ordered(16)])
        assert images.shape == (40, 32, 32, channels)
        for image, file in zip(images.numpy(), pictures.files, strict=True):
            assert np.array_equal(image, square(read_picture(photos / file), 32, channels))
        assert torch.equal(torch.cat([batch.labels for batch in pictures.ordered(16)]), pictures.targets)


def test_squares_are_made_only_once(photos, monkeypatch):
    pictures = opened(photos)
    first = next(pictures.ordered(16))
    whole = list(pictures.ordered(16))
    assert same(whole[:1], [first])
    monkeypatch.setattr(folders, "read_picture", None)
    assert same(pictures.ordered(16), whole)
    assert torch.equal(torch.cat([batch.images for batch in pictures.ordered(7)]), pictures.squares.images)
    # Without room for all, none is kept.
    monkeypatch.undo()
    monkeypatch.setattr(folders, "SQUARES_BYTES", 40 * 32 * 32 * 3 - 1)
    large = opened(photos)
    assert same(large.ordered(16), whole)
    assert large.squares.images is None


def test_any_number_of_processes_and_workers_sees_the_same_pictures(photos):
    pictures = opened(photos, auto_augment="rand-m7-mstd0.5", reprob=0.5)
    whole = list(pictures.batches(12, 1, 0))
    assert [batch.images.shape for batch in whole] == [(12, 32, 32, 3)] * 3
    assert whole[0].keys is None
    with_workers = opened(photos, auto_augment="rand-m7-mstd0.5", reprob=0.5, workers=2)
    assert same(with_workers.batches(12, 1, 0), whole)
    assert same(with_workers.ordered(16), pictures.ordered(16))
    assert same(pictures.batches(12, 1, 0, start=2), whole[2:])
    for rank in (0, 1):
        for part, batch in zip(pictures.batches(12, 1, 0, rank=rank, world=2), whole, strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
            assert torch.equal(part.labels, batch.labels[rank::2])
    assert not torch.equal(next(pictures.batches(12, 1, 1)).images, whole[0].images)
    assert not torch.equal(next(pictures.batches(12, 2, 0)).images, whole[0].images)


def test_other_random_numbers_are_left_alone(photos):
    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    expected = numbers()
    seed()
    list(opened(photos, reprob=0.5).batches(20, 1, 0))
    list(opened(photos).ordered(20))
    assert numbers() == expected


def test_augmentation_follows_the_settings(photos):
    image = photograph("gradient_red", 1, 64, 64)
    plain = dict(scale_min=1.0, hflip=0.0, color_jitter=0.0)
    stays = Augmentation(settings(photos, size=64, **plain))
    assert np.array_equal(stays(image, 1), np.asarray(image))
    mirrored = Augmentation(settings(photos, **(plain | {"hflip": 1.0})))
    assert np.array_equal(mirrored(image, 1), Augmentation(settings(photos, **plain))(image, 1)[:, ::-1])
    erased = Augmentation(settings(photos, **plain, reprob=1.0))(image, 1)
    assert (erased == 128).all(2).mean() > 0.01
    grey = Augmentation(settings(photos, **plain, channels=1, reprob=1.0, auto_augment="rand-m7-mstd0.5"))
    assert grey(image, 1).shape == (32, 32, 1)


def test_statistics_and_parts(photos):
    pictures = opened(photos)
    images = torch.cat([batch.images for batch in pictures.ordered(16)]).double().flatten(0, 2) / 255
    mean, std = pictures.statistics()
    assert mean == pytest.approx(images.mean(0).tolist())
    assert std == pytest.approx(images.std(0).tolist(), rel=1e-4)
    assert pictures.subset(3, 5).files == pictures.files[3:5]
    assert torch.bincount(pictures.spread(8).targets).tolist() == [2, 2, 2, 2]
    with pytest.raises(TrainerError, match="unlimited augmentation, no keys"):
        pictures.augmented(torch.arange(3))


def test_quotas_leave_some_of_every_class():
    assert quotas([10, 10], 5) == [3, 2]
    assert quotas([100, 10, 1], 11) == [10, 1, 0]
    assert quotas([2, 2, 2], 3) == [1, 1, 1]
    assert quotas([1, 1, 50], 49) == [0, 0, 49]


def test_synsets_get_readable_names():
    assert readable_names(["cat", "n01440764"]) == ("cat", "n01440764")
    names = ["n01440764", "n02012849", "n03126707"]
    assert readable_names(names) == ("tench", "crane (n02012849)", "crane (n03126707)")
    # Not of ImageNet-1k, and of no list.
    assert readable_names(["n02085374", "n99999999"]) == ("toy dog", "n99999999")
    from timm.data import ImageNetInfo

    labels = readable_names(ImageNetInfo().label_names())
    assert len(set(labels)) == 1000
    assert (labels[0], labels[999]) == ("tench", "toilet tissue")
