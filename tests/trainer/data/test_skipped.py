# SPDX-License-Identifier: MIT
"""What is not used of a folder is told and listed; formats that phones and browsers save are read."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.photos import photograph, write_broken, write_photos
from trainer.data import DataSettings, decode, open_data
from trainer.data import listing as listings
from trainer.data.folder import FolderPictures
from trainer.errors import TrainerError


def settings(root, **changes):
    values = dict(source="folder", path=str(root), size=32, channels=3, validation=4, workers=0, cache_gb=0.0)
    return DataSettings(**values | changes)


@pytest.fixture
def photos(tmp_path):
    """12 photos in four classes."""
    return write_photos(tmp_path / "photos", 3)


def listed(cache):
    """Lines of the file that lists what is skipped."""
    (path,) = cache.glob("skipped-*.txt")
    return path, path.read_text().splitlines()


def test_every_skipped_file_is_listed_the_first_few_on_screen(photos, tmp_path, capsys):
    cache = tmp_path / "cache"
    broken = write_broken(photos / "circle")
    for number in range(20):
        (photos / "checker" / f"cut{number}.jpg").write_bytes(b"")
    FolderPictures.open(photos, settings(photos)).check(cache)
    (line,) = capsys.readouterr().err.splitlines()
    path, lines = listed(cache)
    assert line.startswith(f"{photos}: skipped 25 files: checker/cut0.jpg (empty), checker/cut1.jpg (empty), ")
    assert line.endswith(f", ..; all in {path}") and line.count("(") == 3
    assert len(lines) == 25
    assert {f"{photos}/circle/{name}" for name in broken} <= {text.split(": ")[0] for text in lines}
    assert f"{photos}/circle/notes.txt: no picture's suffix" in lines
    # What was mended is no longer listed.
    for file in [*(photos / "checker").glob("cut*"), *(photos / "circle" / name for name in broken)]:
        file.unlink()
    FolderPictures.open(photos, settings(photos)).check(cache)
    assert capsys.readouterr().err == "" and not list(cache.glob("skipped-*"))


def test_pictures_beside_class_folders_are_mentioned(photos, tmp_path, capsys):
    for name in ("1.jpg", "2.JPG", "3.png", "4.webp"):
        shutil.copy(photos / "circle" / "0.jpg", photos / name)
    (photos / "notes.txt").write_text("bought on Monday\n")
    FolderPictures.open(photos, settings(photos)).check(tmp_path / "cache")
    (line,) = capsys.readouterr().err.splitlines()
    path, lines = listed(tmp_path / "cache")
    assert line == (
        f"{photos}: 4 pictures belong to no class, beside the class folders: 1.jpg, 2.JPG, 3.png, ..; all in {path}"
    )
    assert lines == [f"{photos}/{name}: beside the class folders" for name in ("1.jpg", "2.JPG", "3.png", "4.webp")]


def test_what_stands_beside_train_and_val_is_mentioned(tmp_path, capsys):
    root = write_photos(tmp_path / "parted", 3, val=2, test=0)
    shutil.copytree(root / "train" / "circle", root / "cats")
    shutil.copy(root / "train" / "circle" / "0.jpg", root / "lost.jpg")
    open_data(settings(root, validation=0))
    assert capsys.readouterr().err == f"{root}: 2 beside train/ not used: cats, lost.jpg\n"


def test_of_a_zip_file_too(photos, tmp_path, capsys):
    shutil.copy(photos / "circle" / "0.jpg", photos / "lost.jpg")
    (photos / "circle" / "notes.txt").write_text("bought on Monday\n")
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    open_data(settings(archive), tmp_path / "cache")
    said = capsys.readouterr().err
    path, lines = listed(tmp_path / "cache")
    assert f"{archive}: skipped 1 file: circle/notes.txt (no picture's suffix); all in {path}\n" in said
    assert f"{archive}: 1 picture belongs to no class, beside the class folders: lost.jpg; all in {path}\n" in said
    assert len(lines) == 2


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "JPEG"), ("JPE", "JPEG"), ("avif", "AVIF"), ("AVIF", "AVIF")])
def test_jfif_and_avif_are_read(tmp_path, suffix, kind):
    image = photograph("gradient_red", 1, 64, 48)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        image.save(tmp_path / label / f"1.{suffix}", kind, quality=90)
    pictures = FolderPictures.open(tmp_path, settings(tmp_path)).check()
    assert len(pictures) == 2
    found = np.asarray(decode.read_picture(tmp_path / "a" / f"1.{suffix}")).astype(int)
    assert np.abs(found - np.asarray(image)).mean() < 6


def test_without_avif_it_is_named(tmp_path, monkeypatch, capsys):
    """As with a Pillow older than 11.3."""
    monkeypatch.setattr(decode, "ADVICE", {**decode.ADVICE, ".avif": "AVIF: Pillow 11.3 or newer reads it"})
    monkeypatch.setattr(listings, "SUFFIXES", tuple(suffix for suffix in decode.SUFFIXES if suffix != ".avif"))
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / label / "1.png")
        Image.new("RGB", (40, 40)).save(tmp_path / label / "2.avif")
    FolderPictures.open(tmp_path, settings(tmp_path)).check()
    assert "skipped 2 files: a/2.avif (AVIF: Pillow 11.3 or newer reads it), b/2" in capsys.readouterr().err
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(TrainerError, match=r"a: no pictures \(AVIF: Pillow 11.3 or newer reads it\)"):
        FolderPictures.open(tmp_path, settings(tmp_path))
