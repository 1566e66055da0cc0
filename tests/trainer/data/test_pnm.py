# SPDX-License-Identifier: MIT
"""trainer.data.pnm: any photo becomes a file that the board reads."""

import ftervit
import numpy as np
import pytest
from PIL import Image

from tests.photos import photograph, save_turned
from trainer.data.decode import read_picture, square
from trainer.data.pnm import convert_photos, photo_to_ppm
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


def coloured(path, level):
    """A photo of one colour at `path`; returns the path."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (level, 0, 0)).save(path)
    return path


def level(path):
    """The first value of a picture."""
    return read(path)[3][0]


def test_a_bad_photo_is_named_and_the_rest_converted(tmp_path, capsys):
    photos = [tmp_path / "text.png", coloured(tmp_path / "a.png", 1), tmp_path / "none.png", tmp_path]
    photos[0].write_bytes(b"text")
    photos.append(coloured(tmp_path / "b.png", 2))
    out = tmp_path / "new" / "folder"
    with pytest.raises(TrainerError, match=r"^3 of 5 photos not converted$"):
        convert_photos(photos, out)
    assert {path.name: level(path) for path in out.iterdir()} == {"a.ppm": 1, "b.ppm": 2}
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        str(photos[0]),
        str(photos[2]),
        str(tmp_path),
    ]


def test_out_that_is_not_there_is_a_folder(tmp_path):
    photo = coloured(tmp_path / "x.png", 5)
    assert convert_photos([photo], tmp_path / "images") == [tmp_path / "images" / "x.ppm"]
    assert convert_photos([photo], tmp_path / "more" / "y.PPM") == [tmp_path / "more" / "y.PPM"]
    assert convert_photos([photo, photo], tmp_path / "twice") == [tmp_path / "twice" / "x.ppm"]


def test_no_photo_overwrites_another(tmp_path, capsys):
    first, second = coloured(tmp_path / "a" / "x.png", 1), coloured(tmp_path / "b" / "X.png", 2)
    third = coloured(tmp_path / "b" / "y.png", 3)
    with pytest.raises(TrainerError, match="1 of 3 photos not converted"):
        convert_photos([first, second, third], tmp_path / "out")
    assert {path.name: level(path) for path in (tmp_path / "out").iterdir()} == {"x.ppm": 1, "y.ppm": 3}
    assert f"{second}: would overwrite {tmp_path / 'out' / 'X.ppm'}, made from {first}; rename one\n" in (
        capsys.readouterr().err
    )
    # A photo that was not converted keeps no other from its name.
    first.write_bytes(b"text")
    with pytest.raises(TrainerError, match="1 of 2"):
        convert_photos([first, second], tmp_path / "out2")
    assert [path.name for path in (tmp_path / "out2").iterdir()] == ["X.ppm"]


def test_a_photo_is_not_replaced_by_another_and_an_older_file_is_named(tmp_path, capsys):
    png, ppm = coloured(tmp_path / "x.png", 1), coloured(tmp_path / "x.ppm", 2)
    with pytest.raises(TrainerError, match="2 of 2 photos not converted"):
        convert_photos([png, ppm])
    assert level(ppm) == 2
    said = capsys.readouterr()
    assert f"{png}: would overwrite {ppm}, one of the photos; pass --out" in said.err
    assert f"{ppm}: is the photo itself" in said.err
    photo_to_ppm(png)
    assert capsys.readouterr().out.endswith(" bytes, in place of an older file\n")
    with pytest.raises(TrainerError, match=r"^size 0: must be"):
        convert_photos([png, ppm], tmp_path / "out", 0)
