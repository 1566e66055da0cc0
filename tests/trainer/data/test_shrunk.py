# SPDX-License-Identifier: MIT
"""Large photos are decoded once, whatever becomes of the file that keeps them, and training sees the same pixels."""

import multiprocessing
import os
import resource
import shutil
import sqlite3
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tests.photos import photograph
from trainer.data import DataSettings
from trainer.data import check as checking
from trainer.data import folder as folders
from trainer.data.folder import KEPT, FolderPictures
from trainer.data.shrunk import Forms, Store, Writer, crop_side, reduced

SIZE = 8  # photos of 62 pixels or more are large
COUNT = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """8 photos in two classes, all large but the last; read only."""
    root = tmp_path_factory.mktemp("large")
    for number in range(COUNT):
        label, side = ("checker", "circle")[number // 4], 30 if number == 7 else 90 + 7 * number
        (root / label).mkdir(exist_ok=True)
        photograph(label, number, side + 20, side).save(root / label / f"{number}.png")
    return root


def settings(root, **changes):
    values = dict(source="folder", path=str(root), size=SIZE, channels=3, validation=2, workers=0, scale_min=0.5)
    return DataSettings(**values | changes)


def opened(root, cache, with_crops=True, **changes):
    return FolderPictures.open(root, settings(root, **changes)).check(cache, with_crops)


def seen(pictures):
    """All that a training sees of a set."""
    return [batch.images for part in (pictures.batches(2, 1, 0), pictures.ordered(3)) for batch in part]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def decoded(monkeypatch):
    """Names and sizes of what is decoded from now on."""
    found = []
    read, look = folders.read_picture, checking.looked_at
    monkeypatch.setattr(folders, "read_picture", lambda path, digest="": found.append(path.name) or read(path, digest))
    monkeypatch.setattr(checking, "looked_at", lambda content: found.append(len(content)) or look(content))
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_each_large_photo_is_decoded_once(photos, tmp_path, decoded, capsys, workers):
    plain = seen(opened(photos, None, workers=workers))
    decoded.clear()
    pictures = opened(photos, tmp_path, workers=workers)
    said = capsys.readouterr().err
    assert f"note: {photos}: 7 large photos decoded and shrunk once, 0.0 MB kept in {tmp_path / KEPT}" in said
    assert len(decoded) == COUNT
    decoded.clear()
    assert same(seen(pictures), plain)
    assert set(decoded) <= {"7.png"}, "only the small one"
    decoded.clear()
    assert same(seen(opened(photos, tmp_path, workers=workers)), plain)
    assert set(decoded) <= {"7.png"} and capsys.readouterr().err == ""


def test_crops_of_a_shrunk_photo_look_like_those_of_the_whole_one():
    """The smallest crops that training makes, at the network's size, in steps of 1/255."""
    image = photograph("checker", 3, 900, 700).resize((1800, 1400), Image.Resampling.BICUBIC)
    own = settings("x", size=32)
    side = crop_side(own)
    small = reduced(image, side)
    factor = 1400 // side
    assert side <= small.height < 1.5 * side and abs(small.width * factor - 1800) < factor
    assert reduced(small, side).size == small.size
    narrow = int(0.61 * small.height)  # sqrt(3/4 * 0.5) of a square
    assert narrow >= 2 * own.size
    for left, top in ((0, 0), (40, 30), (1800 // factor - narrow, 1400 // factor - narrow)):
        box = left, top, left + narrow, top + narrow
        sizes = [tuple(scale * edge for edge in box) for scale in (1, factor)]
        crops = [
            np.asarray(picture.crop(size).resize((own.size, own.size), Image.Resampling.BILINEAR)).astype(int)
            for picture, size in zip((small, image), sizes, strict=True)
        ]
        assert np.abs(crops[0] - crops[1]).mean() < 1
        assert crops[0].std() > 20


def test_without_crops_only_squares_are_kept(photos, tmp_path, decoded):
    pictures = opened(photos, tmp_path, with_crops=False)
    one = (tmp_path / KEPT).stat().st_size
    decoded.clear()
    list(pictures.ordered(3))
    assert decoded == ["7.png"]
    opened(photos, tmp_path)
    assert (tmp_path / KEPT).stat().st_size > one


def test_another_photo_in_its_place_is_decoded(photos, tmp_path, decoded):
    root = shutil.copytree(photos, tmp_path / "photos")
    opened(root, tmp_path)
    photograph("circle", 99, 120, 99).save(root / "circle" / "5.png")
    decoded.clear()
    pictures = opened(root, tmp_path)
    assert len(decoded) == 1
    assert same(seen(pictures), seen(opened(root, None)))


def kept(cache):
    with sqlite3.connect(cache / KEPT) as connection:
        return dict(connection.execute("SELECT digest || form, bytes FROM entries").fetchall())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"this is no database at all " * 99,
        lambda content: content[: len(content) // 2],
        lambda content: content[:100] + bytes(len(content) - 100),
    ],
    ids=["empty", "text", "half", "zeros"],
)
def test_a_damaged_file_costs_time_alone(photos, tmp_path, damage):
    plain = seen(opened(photos, None))
    before = opened(photos, tmp_path)
    path = tmp_path / KEPT
    path.write_bytes(damage(path.read_bytes()))
    assert same(seen(before), plain), "a run that has it open"
    assert same(seen(opened(photos, tmp_path)), plain)
    path.unlink(missing_ok=True)
    assert same(seen(opened(photos, tmp_path)), plain)
    assert len(kept(tmp_path)) == 2 * COUNT


def test_flipped_bits_are_noticed(photos, tmp_path):
    plain = seen(opened(photos, None))
    pictures = opened(photos, tmp_path)
    with sqlite3.connect(tmp_path / KEPT) as connection:
        rows = connection.execute("SELECT id, content FROM contents").fetchall()
        changed = [(bytes([content[0] ^ 1]) + content[1:], number) for number, content in rows]
        connection.executemany("UPDATE contents SET content=? WHERE id=?", changed)
    assert len(rows) == 14
    assert same(seen(pictures), plain)


def test_a_kill_while_it_is_written_leaves_a_whole_file(photos, tmp_path):
    def killed():
        writer = Writer(Store(tmp_path / KEPT, 1 << 30), Forms(settings(photos), True))
        insert, left = writer.insert, [3]

        def counted(*arguments):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), 9)
            insert(*arguments)

        writer.insert = counted
        for number in range(COUNT):
            writer.add(f"digest {number}", {"form": np.ones((900, 900, 3), np.uint8)})
        writer.flush()

    child = multiprocessing.get_context("fork").Process(target=killed)
    child.start()
    child.join()
    assert child.exitcode == -9
    pictures = opened(photos, tmp_path)
    assert len(kept(tmp_path)) == 2 * COUNT
    assert same(seen(pictures), seen(opened(photos, None)))


def test_two_processes_fill_it_at_once(photos, tmp_path):
    def fill():
        assert same(seen(opened(photos, tmp_path)), plain)

    plain = seen(opened(photos, None))
    children = [multiprocessing.get_context("fork").Process(target=fill) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(kept(tmp_path)) == 2 * COUNT


def test_it_is_bounded_and_the_longest_unused_make_room(photos, tmp_path, capsys):
    opened(photos, tmp_path)
    first = kept(tmp_path)
    total = sum(first.values())
    other = tmp_path / "other"
    for number in range(COUNT):
        label = ("checker", "circle")[number % 2]
        (other / label).mkdir(parents=True, exist_ok=True)
        photograph(label, 50 + number, 100, 90).save(other / label / f"{number}.png")
    limit = 1.2 * total / 1e9
    plain = seen(opened(other, None))
    pictures = opened(other, tmp_path, cache_gb=limit)
    assert same(seen(pictures), plain)
    now = kept(tmp_path)
    assert sum(now.values()) <= 1.2 * total
    assert len(now.keys() - first.keys()) == 2 * COUNT, "all of the new set"
    # A set that is larger than the limit keeps a part, does not drive out its own, and says so.
    capsys.readouterr()
    pictures = opened(other, tmp_path / "small", cache_gb=limit / 4)
    assert 0 < sum(kept(tmp_path / "small").values()) <= 0.3 * total
    said = capsys.readouterr().err
    assert "no room for " in said and "more in data.cache_gb = " in said and "decoded anew each time" in said
    assert same(seen(pictures), plain)
    capsys.readouterr()
    assert not list((tmp_path / "none").glob("*")) and opened(other, tmp_path / "none", cache_gb=0.0).store is None


def test_a_place_that_cannot_be_written_is_said(photos, tmp_path, capsys):
    (tmp_path / KEPT).mkdir()
    pictures = opened(photos, tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"note: {photos}: photos are decoded anew each time: {tmp_path / KEPT}: unable to open")
    assert said.count("\n") == 1
    assert same(seen(pictures), seen(opened(photos, None)))


def test_what_a_full_disk_takes_back_is_not_said_to_be_kept(photos, tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 10, before[1]))  # less than the photos
    try:
        pictures = opened(photos, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert "decoded anew each time" in said and "kept in" not in said
    assert same(seen(pictures), seen(opened(photos, None)))


def test_an_epoch_of_12_megapixels_takes_a_fraction(tmp_path):
    """CPU seconds, not those of the clock; printed with -s."""
    rng = np.random.default_rng(1)
    for number in range(2):
        coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), np.uint8)).resize(
            (4000, 3000), Image.Resampling.BICUBIC
        )
        folder = tmp_path / "photos" / f"class {number}"
        folder.mkdir(parents=True)
        coarse.save(folder / "1.jpg", quality=90)

    def epoch(pictures):
        started = time.process_time()
        list(pictures.batches(2, 1, 0))
        return (time.process_time() - started) / len(pictures)

    anew = opened(tmp_path / "photos", tmp_path / "cache", size=64, cache_gb=0.0)
    before = epoch(anew)
    pictures = opened(tmp_path / "photos", tmp_path / "cache", size=64)
    epoch(pictures)
    after = epoch(pictures)
    size = sum(kept(tmp_path / "cache").values()) / len(pictures)
    print(f"12 MP: {before:.3f} CPU s a photo and epoch, {after:.4f} from the cache, {size / 1e3:.0f} kB a photo")
    assert after < before / 10
    assert size < 600_000
