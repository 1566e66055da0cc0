# SPDX-License-Identifier: MIT
"""Pictures in memory from folders and zip files: the same as those read on demand, augmented alike everywhere."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from tests.tiny import images
from trainer.data import DataSettings, open_data, open_test
from trainer.data.folder import FolderPictures
from trainer.data.jitter import COARSE, Jitter, coarsened, jittered, resized
from trainer.errors import TrainerError

SYNSETS = ("n01443537", "n02123045", "n02099601")
NAMES = "n01443537\tgoldfish, Carassius auratus\nn02123045\ttabby, cat\nn02099601\tgolden retriever\n"


def write_set(folder: Path, train: int = 12, val: int = 4) -> Path:
    """train/WNID/N.png, val/WNID/N.png and names.txt in `folder`."""
    for part, count in (("train", train), ("val", val)):
        pixels = images(len(SYNSETS) * count, 16, 3, seed=count).numpy()
        for number, pixel in enumerate(pixels):
            path = folder / part / SYNSETS[number % len(SYNSETS)] / f"{number // len(SYNSETS)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixel).save(path)
    (folder / "names.txt").write_text(NAMES)
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def settings(path: Path, **changes) -> DataSettings:
    values = {"source": "folder", "path": str(path), "size": 16, "channels": 3, "validation": 6, "workers": 0}
    return DataSettings(**{**values, "memory": True, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "small")


@pytest.fixture(scope="module")
def archive(folder):
    return zipped(folder)


def all_images(pictures) -> torch.Tensor:
    return torch.cat([batch.images for batch in pictures.ordered(5)])


@pytest.mark.parametrize("source", ["folder", "archive"])
def test_pictures_labels_and_held_out_part_are_those_of_a_folder(source, request, folder, tmp_path):
    path = request.getfixturevalue(source)
    loaded = open_data(settings(path), tmp_path)
    plain = open_data(settings(folder, memory=False), tmp_path)
    for ours, theirs in zip((*loaded, open_test(settings(path))), (*plain, open_test(settings(folder))), strict=True):
        assert ours.labels == ("goldfish", "golden retriever", "tabby") == theirs.labels
        assert torch.equal(ours.targets, theirs.targets)
        assert torch.equal(all_images(ours), all_images(theirs))
        assert list(ours.inventory()) == list(theirs.inventory())
    training, validation = loaded
    assert torch.bincount(validation.targets).tolist() == [2, 2, 2], "two of each class are held out"
    assert not set(training.inventory()) & set(validation.inventory())


def test_squares_are_read_from_the_cache_and_follow_the_content(archive, folder, tmp_path):
    def everything(path):
        return torch.cat([all_images(part) for part in open_data(settings(path), tmp_path)])

    first = everything(archive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.data.loaded.Files.fill", None)  # nothing is decoded again
        assert torch.equal(everything(archive), first)
    other = shutil.copytree(folder, tmp_path / "other")
    Image.new("RGB", (16, 16), "red").save(other / "train" / SYNSETS[0] / "0.png")
    assert not torch.equal(everything(zipped(other)), first)
    assert len(list(tmp_path.glob("squares-*.npy"))) == 2


@pytest.mark.parametrize("views", [0, 3])
def test_batches_depend_on_seed_epoch_and_picture_alone(archive, views):
    training = open_data(settings(archive, views=views))[0]
    whole = list(training.batches(6, seed=1, epoch=2))
    again = list(training.batches(6, seed=1, epoch=2, start=2))
    assert torch.equal(whole[2].images, again[0].images)
    halves = [list(training.batches(6, seed=1, epoch=2, rank=rank, world=2)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        for rank in (0, 1):
            assert torch.equal(batch.images[rank::2], halves[rank][step].images)
            assert torch.equal(batch.labels[rank::2], halves[rank][step].labels)
    other = next(iter(training.batches(6, seed=1, epoch=3)))
    assert not torch.equal(other.images, whole[0].images)
    if views:
        for batch in whole:
            assert torch.equal(training.augmented(batch.keys), batch.images)
            assert torch.equal(training.targets[batch.keys // views], batch.labels)
        keys = torch.cat([batch.keys for batch in whole])
        assert len(set((keys % views).tolist())) == views


def test_jitter_is_a_crop_a_mirror_and_colour():
    """Against a loop over pictures with torchvision's definitions, and against nothing at all."""
    pixels = images(8, 16, 3, seed=3)
    neutral = torch.tensor([[1, 1, 1, 0, 0, 1, 1, 1.0]]).repeat(8, 1)
    assert torch.equal(jittered(pixels, Jitter(neutral)), pixels)
    mirrored = neutral.clone()
    mirrored[:, 2] = -1
    assert torch.equal(jittered(pixels, Jitter(mirrored)), pixels.flip(2))
    half = neutral.clone()
    half[:, 0] = half[:, 1] = 0.5
    half[:, 3], half[:, 4] = 1, -1  # right, up
    corner = pixels[:, :8, 8:].permute(0, 3, 1, 2).float()
    expected = functional.interpolate(corner, size=16, mode="bilinear", align_corners=False)
    found = jittered(pixels, Jitter(half)).permute(0, 3, 1, 2).float()
    assert (found - expected)[:, :, 1:-1, 1:-1].abs().max() <= 0.5, "borders see a neighbour that the corner lacks"
    coloured = neutral.clone()
    coloured[:, 5:] = torch.tensor([0.5, 1.5, 0.8])
    for picture, changed in zip(pixels.double().numpy(), jittered(pixels, Jitter(coloured)).numpy(), strict=True):
        grey = picture.mean(2, keepdims=True)
        wanted = grey + 0.5 * (picture - grey)
        wanted = 0.8 * (wanted.mean() + 1.5 * (wanted - wanted.mean()))
        assert np.abs(wanted.clip(0, 255) - changed).max() <= 0.51


def test_draws_stay_in_their_ranges():
    drawn = Jitter.draw(settings(Path("x"), scale_min=0.5, saturation=0.4), 4000, torch.Generator().manual_seed(1))
    width, height, mirrored, right, down, saturation, contrast, brightness = drawn.values.unbind(1)
    assert (width * height).min() >= 0.5 - 1e-6
    assert max(width.max(), height.max()) <= 1
    assert abs((mirrored < 0).float().mean() - 0.5) < 0.05
    for values, low, high in ((right, -1, 1), (down, -1, 1), (saturation, 0.6, 1.4), (contrast, 0.7, 1.3)):
        assert values.min() >= low
        assert values.max() <= high
        assert values.max() - values.min() > 0.95 * (high - low)
    assert brightness.std() > 0.1


def test_smaller_sides_are_antialiased():
    checker = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).mul(255).to(torch.uint8)
    small = resized(checker.expand(2, 3, 16, 16).permute(0, 2, 3, 1), 8)
    assert small.shape == (2, 8, 8, 3)
    assert small[:, 1:-1, 1:-1].float().sub(127.5).abs().max() <= 1


def test_a_part_of_a_batch_loses_detail():
    """The first ones, to a side in the range; flat areas stay; the same random numbers, the same pictures."""
    pixels = images(10, 64, 3, seed=6)
    assert coarsened(pixels, 0.0) is pixels
    torch.manual_seed(4)
    found = coarsened(pixels, 0.4)
    torch.manual_seed(4)
    assert torch.equal(coarsened(pixels, 0.4), found)
    assert found.dtype == torch.uint8 and found.shape == pixels.shape
    assert torch.equal(found[4:], pixels[4:])
    blocks = np.kron(np.random.default_rng(1).integers(0, 256, (1, 4, 4, 1)), np.ones((1, 16, 16, 3))).astype(np.uint8)
    flat = torch.from_numpy(blocks)
    deviations, sides = [], []
    for seed in range(60):
        torch.manual_seed(seed)
        sides.append(int(torch.randint(round(COARSE[0] * 64), round(COARSE[1] * 64) + 1, ())))
        torch.manual_seed(seed)
        made = coarsened(flat, 1.0)
        deviations.append(made.float().diff(dim=1).abs().max().item())
        # What is far from an edge stays as it is, whatever the side.
        assert torch.equal(made[0, 7:9, 7:9], flat[0, 7:9, 7:9])
    assert {min(sides), max(sides)} == {24, 48}
    assert max(deviations) < flat.float().diff(dim=1).abs().max(), "edges are softer"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"no zip file", "not a readable zip file"),
        (lambda content: content[: len(content) // 2], "not a readable zip file"),
        (lambda content: content.replace(b"IDAT", b"JUNK"), r"train/n01443537/\d+.png: cannot be read \(Bad CRC-32"),
    ],
)
def test_a_damaged_zip_file_is_named(archive, tmp_path, damage, words):
    path = tmp_path / "damaged.zip"
    path.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(TrainerError, match=words):
        open_data(settings(path))


def test_a_zip_file_with_an_unreadable_picture_names_it(tmp_path):
    path = tmp_path / "text.zip"
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    with zipfile.ZipFile(path, "w") as file:
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            file.writestr(name, picture.getvalue())
        file.writestr("b/2.png", b"text")
    with pytest.raises(TrainerError, match=r"text.zip/b/2.png: not a readable picture \(not a picture\)"):
        open_data(settings(path, validation=1))


def test_names_that_no_label_comes_from_are_refused(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "set")
    (root / "names.txt").write_text("n01443537 goldfish\n")
    with pytest.raises(TrainerError, match=r"names.txt: line 1 is not a folder's name, a tab and names"):
        FolderPictures.open(root / "train", settings(root))
    (root / "names.txt").write_text("n01443537\tcat, lion\nn02123045\tcat, tabby\n")
    assert FolderPictures.open(root / "train", settings(root)).labels == ("cat (lion)", "n02099601", "cat (tabby)")


@pytest.mark.parametrize("changes", [{"auto_augment": "rand-m7"}, {"reprob": 0.1}, {"memory": False, "views": 2}])
def test_settings_that_go_without_each_other(changes):
    with pytest.raises(TrainerError, match="needs memory = "):
        settings(Path("x"), **changes)
