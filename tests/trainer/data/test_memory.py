# SPDX-License-Identifier: MIT
"""trainer.data in memory: idx files good and bad, named variants, batches that depend on seed and epoch alone."""

import gzip
import struct
import time

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data import DataSettings, MemoryPictures, load_fashion_mnist, open_data, open_test
from trainer.data.decode import square
from trainer.data.fashion_mnist import read_idx
from trainer.errors import TrainerError

FASHION = dict(source="fashion_mnist", size=28, channels=1, validation=100)
FOLDER = dict(source="folder", path="photos", size=32, channels=3, validation=10)


def write_idx(path, shape, data, magic=b"\0\0\x08"):
    header = magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    path.write_bytes(gzip.compress(header + data))
    return path


def noise(count, size=28, channels=1, **settings):
    """Random pictures whose labels are their indices."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, channels), generator=generator, dtype=torch.uint8)
    return MemoryPictures(images, torch.arange(count), tuple(map(str, range(count))), **settings)


def same(one, other):
    """Whether two batches hold the same."""
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "labels", "keys"))


def test_reads_shape_and_values(tmp_path):
    path = write_idx(tmp_path / "x.gz", (2, 3), bytes(range(6)))
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bad_files_are_named(tmp_path):
    with pytest.raises(TrainerError, match=r"x\.gz: not found; install"):
        read_idx(tmp_path / "x.gz")
    (tmp_path / "text.gz").write_bytes(b"hello")
    with pytest.raises(TrainerError, match=r"text\.gz: not a whole gzip"):
        read_idx(tmp_path / "text.gz")
    with pytest.raises(TrainerError, match=r"int\.gz: idx magic is 00000c01"):
        read_idx(write_idx(tmp_path / "int.gz", (1,), b"\0", magic=b"\0\0\x0c"))
    with pytest.raises(TrainerError, match=r"short\.gz: 9 bytes do not fit the idx shape \(2,\)"):
        read_idx(write_idx(tmp_path / "short.gz", (2,), b"\0"))
    whole = write_idx(tmp_path / "whole.gz", (2,), b"\0\0").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[:-3])
    with pytest.raises(TrainerError, match=r"cut\.gz: not a whole gzip"):
        read_idx(tmp_path / "cut.gz")


def test_images_and_labels_must_match(tmp_path):
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", (2, 1, 1), b"\0\0")
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", (3,), b"\0\0\0")
    with pytest.raises(TrainerError, match="2 t10k images but 3 labels"):
        load_fashion_mnist("t10k", tmp_path)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (FASHION, {"source": "web"}, "source is 'web', must be one of fashion_mnist, folder"),
        (FASHION, {"size": 32}, "needs size 28, channels 1"),
        (FASHION, {"channels": 3}, "needs size 28, channels 1"),
        (FASHION, {"validation": 0}, "validation must be at least 1"),
        (FASHION, {"hflip": 0.4}, r"hflip must be 0 or 0\.5"),
        (FASHION, {"shift": 28}, "shift must be 0 to 27"),
        (FOLDER, {"size": 4097}, "size must be 1 to 4096"),
        (FOLDER, {"size": 0}, "size must be 1 to 4096"),
        (FOLDER, {"channels": 4}, "channels must be 1"),
        (FOLDER, {"validation": -1}, "validation must not be negative"),
        (FOLDER, {"path": ""}, "path of the folder is missing"),
        (FOLDER, {"hflip": 1.5}, "hflip must be 0 to 1"),
        (FOLDER, {"reprob": -0.1}, "reprob must be 0 to 1"),
        (FOLDER, {"scale_min": 0.0}, "scale_min must be above 0"),
        (FOLDER, {"color_jitter": 2.0}, "color_jitter must be 0 to 1"),
        (FOLDER, {"workers": -1}, "workers must not be negative"),
    ],
)
def test_bad_settings_are_refused(base, change, message):
    with pytest.raises(TrainerError, match=message):
        DataSettings(**(base | change))


def test_augmentation_moves_and_mirrors_whole_pictures():
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4, 1)
    pictures = MemoryPictures(image, torch.zeros(1, dtype=torch.int64), ("x",), shift=1)
    assert pictures.variants == 18
    seen = {tuple(x.flatten().tolist()) for x in pictures.augmented(torch.arange(18))}
    padded = torch.nn.functional.pad(image[..., 0], (1, 1, 1, 1))
    possible = set()
    for source in (padded, padded.flip(2)):
        for y in range(3):
            for x in range(3):
                possible.add(tuple(source[0, y : y + 4, x : x + 4].flatten().tolist()))
    assert seen == possible


def test_without_shift_and_mirror_pictures_stay_as_they_are():
    pictures = noise(20, channels=3, shift=0, mirrored=False)
    assert pictures.variants == 1
    assert torch.equal(pictures.augmented(torch.arange(20)), pictures.images)


def test_keys_name_the_pictures_of_a_batch():
    pictures = noise(50)
    seen = set()
    for batch in pictures.batches(16, seed=1, epoch=0):
        assert batch.images.shape == (16, 28, 28, 1)
        assert torch.equal(pictures.augmented(batch.keys), batch.images)
        assert torch.equal(pictures.targets[batch.keys // pictures.variants], batch.labels)
        seen.update((batch.keys % pictures.variants).tolist())
    assert len(seen) > 20


def test_batches_depend_on_seed_and_epoch_alone():
    pictures = noise(50)

    def labels(seed, epoch):
        return torch.cat([batch.labels for batch in pictures.batches(16, seed, epoch)]).tolist()

    torch.manual_seed(1)
    first = labels(1, 0)
    torch.manual_seed(2)
    assert labels(1, 0) == first
    assert len(set(first)) == 48
    assert labels(1, 1) != first
    assert labels(2, 0) != first


def test_batches_from_a_later_step_on():
    pictures = noise(50)
    whole = list(pictures.batches(16, 1, 0))
    assert len(whole) == pictures.steps(16) == 3
    assert all(map(same, pictures.batches(16, 1, 0, start=2), whole[2:]))
    assert not list(pictures.batches(16, 1, 0, start=3))


def test_processes_share_a_batch_in_turn():
    pictures = noise(50)
    parts = [list(pictures.batches(15, 1, 0, rank=rank, world=2)) for rank in (0, 1)]
    for step, whole in enumerate(pictures.batches(15, 1, 0)):
        for rank in (0, 1):
            assert torch.equal(parts[rank][step].keys, whole.keys[rank::2])
            assert torch.equal(parts[rank][step].images, whole.images[rank::2])
    with pytest.raises(TrainerError, match="batch is 2, must be at least 3, a picture for each process"):
        next(pictures.batches(2, 1, 0, world=3))


def test_parts():
    pictures = noise(50)
    training, validation = pictures.split(10)
    assert training.targets.tolist() == list(range(40))
    assert validation.targets.tolist() == list(range(40, 50))
    assert torch.equal(validation.images, pictures.images[40:])
    assert pictures.subset(3, 5).targets.tolist() == [3, 4]
    assert pictures.spread(5).targets.tolist() == [0, 10, 20, 30, 40]
    assert len(pictures.spread(99)) == 50
    for count in (0, 50):
        with pytest.raises(TrainerError, match=f"validation is {count}, must be 1 to 49 of the 50"):
            pictures.split(count)


def test_statistics():
    pictures = noise(50, channels=3)
    pictures.images[..., 1] //= 2
    mean, std = pictures.statistics()
    pixels = pictures.images.double().flatten(0, 2) / 255
    assert mean == pytest.approx(pixels.mean(0).tolist())
    assert std == pytest.approx(pixels.std(0).tolist(), rel=1e-4)


def test_fashion_mnist_is_opened_as_the_settings_say():
    training, validation = open_data(DataSettings(**FASHION, shift=1, hflip=0))
    test = open_test(DataSettings(**FASHION))
    assert (len(training), len(validation), len(test)) == (59_900, 100, 10_000)
    assert (training.variants, test.variants) == (9, 50)
    assert (training.size, training.channels, training.labels[9]) == (28, 1, "Ankle boot")
    batch = next(test.ordered(3))
    assert (batch.keys, batch.labels.tolist()) == (None, [9, 2, 1])
    # The board's own path changes nothing.
    for image in batch.images.numpy():
        assert np.array_equal(square(Image.fromarray(image[..., 0]).convert("RGB"), 28, 1), image)


def test_batches_are_fast():
    """About 1.5 ms on one core; 15 allow for a slower machine with other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batches = noise(20_000).batches(256, 1, 0)
        next(batches)
        times = []
        for _ in range(20):
            started = time.perf_counter()
            next(batches)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < 0.015
