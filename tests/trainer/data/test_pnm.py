# SPDX-License-Identifier: MIT
"""trainer.data.pnm: any photo becomes a file that the board reads."""

import ftervit
import numpy as np
import pytest
from PIL import Image

from tests.photos import photograph, save_turned
from trainer.data.decode import read_picture, square
from trainer.data.pnm import photo_to_ppm
from trainer.errors import TrainerError


def read(path):
    """(width, height, channels, pixels) by the board's reader."""
    image = ftervit.read_image(str(path))
    return image.width, image.height, image.channels, bytes(image.pixels)


def test_a_photo_beside_itself(tmp_path, capsys):
    photo = tmp_path / "me.and.you.jpg"
    save_turned(photograph("circle", 1, 700, 600), photo, 6)
    path = photo_to_ppm(photo)
    assert path == tmp_path / "me.and.you.ppm"
    assert capsys.readouterr().out == f"{path}: 512 x 512, colour, {15 + 3 * 512 * 512} bytes\n"
    assert read(path) == (512, 512, 3, square(read_picture(photo), 512, 3).tobytes())


def test_size_grey_and_folder(tmp_path):
    photo = tmp_path / "x.png"
    photograph("circle", 1, 70, 60).save(photo)
    (tmp_path / "out").mkdir()
    assert photo_to_ppm(photo, tmp_path / "out", None, True) == tmp_path / "out" / "x.pgm"
    assert read(tmp_path / "out" / "x.pgm")[:3] == (60, 60, 1)
    path = photo_to_ppm(photo, tmp_path / "new" / "y.ppm", 28)
    assert read(path)[:3] == (28, 28, 3)


def test_the_networks_size_gives_the_networks_pixels(tmp_path):
    photo = tmp_path / "x.png"
    photograph("gradient_red", 1, 90, 120).save(photo)
    for grey, channels in ((False, 3), (True, 1)):
        image = ftervit.read_image(str(photo_to_ppm(photo, None, 32, grey)))
        board = np.frombuffer(image.square(32, channels), np.uint8)
        assert np.array_equal(board, square(read_picture(photo), 32, channels).ravel())


def test_refusals_name_the_file(tmp_path):
    (tmp_path / "text.jpg").write_bytes(b"text")
    with pytest.raises(TrainerError, match=r"text\.jpg: not a readable picture"):
        photo_to_ppm(tmp_path / "text.jpg")
    with pytest.raises(TrainerError, match=r"none\.jpg: cannot be read"):
        photo_to_ppm(tmp_path / "none.jpg")
    photo = tmp_path / "x.ppm"
    Image.new("RGB", (8, 8)).save(photo)
    with pytest.raises(TrainerError, match=r"x\.ppm: is the photo itself"):
        photo_to_ppm(photo)
    with pytest.raises(TrainerError, match="size 4097: must be 1 to 4096"):
        photo_to_ppm(photo, None, 4097)
