# SPDX-License-Identifier: MIT
"""trainer.data: idx files good and bad, augmentation, and batches that depend on seed and epoch alone."""

import gzip
import struct

import pytest
import torch

from trainer.data import Split, augment, batches, load_fashion_mnist, read_idx
from trainer.errors import TrainerError


def write_idx(path, shape, data, magic=b"\0\0\x08"):
    header = magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    path.write_bytes(gzip.compress(header + data))
    return path


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


def test_augmentation_moves_and_mirrors_whole_pictures():
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4)
    seen = {tuple(augment(image, torch.Generator().manual_seed(s), 1).flatten().tolist()) for s in range(400)}
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    possible = set()
    for source in (padded, padded.flip(2)):
        for y in range(3):
            for x in range(3):
                possible.add(tuple(source[0, y : y + 4, x : x + 4].flatten().tolist()))
    assert seen == possible


def test_batches_depend_on_seed_and_epoch_alone():
    split = Split(torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8), torch.arange(50))

    def labels(seed, epoch):
        return torch.cat([labels for _, labels in batches(split, 16, seed, epoch)]).tolist()

    torch.manual_seed(1)
    first = labels(1, 0)
    torch.manual_seed(2)
    assert labels(1, 0) == first
    assert len(set(first)) == 48
    assert labels(1, 1) != first
    assert labels(2, 0) != first
