# SPDX-License-Identifier: MIT
"""trainer.data.decode: every mode and format, EXIF, large and broken pictures, and SPEC 3 by the board's code."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests import oracle
from tests.photos import photograph, save_turned, write_broken
from trainer.data.decode import UnreadableError, decode, fitted, read_picture, square
from trainer.errors import TrainerError

RAMP = np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8)


def stored(image, kind, **options):
    """What `decode` makes of a file, uint8 [height, width, 3]."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    result = decode(content.getvalue())
    assert result.mode == "RGB"
    return np.asarray(result)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PPM", {}), ("GIF", {})],
)
def test_formats_without_loss(kind, options):
    image = Image.fromarray(np.stack([RAMP, RAMP // 2, 255 - RAMP], 2))
    assert np.array_equal(stored(image, kind, **options), np.asarray(image))


def test_jpeg_in_colour_grey_and_cmyk():
    grey = Image.fromarray(np.full((16, 16), 90, np.uint8))
    assert np.array_equal(stored(grey, "JPEG"), np.full((16, 16, 3), 90))
    for mode in ("RGB", "CMYK"):
        red = Image.new("RGB", (16, 16), (200, 40, 40)).convert(mode)
        assert np.abs(stored(red, "JPEG", quality=95).astype(int) - (200, 40, 40)).max() <= 4


def test_sixteen_bits_keep_the_upper_eight():
    deep = Image.fromarray(RAMP.astype(np.uint16) * 256 + 200)
    expected = np.stack([RAMP] * 3, 2)
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(stored(deep, kind), expected)


def test_one_bit_and_palette():
    bits = Image.fromarray(RAMP > 100)
    assert bits.mode == "1"
    assert np.array_equal(stored(bits, "PNG")[..., 1], np.where(RAMP > 100, 255, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (stored(palette, "PNG") == (10, 20, 30)).all()


def test_transparent_parts_lie_over_white():
    colour = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
    colour.putpixel((0, 0), (10, 20, 30, 0))
    grey = Image.new("LA", (4, 4), (10, 255))
    grey.putpixel((0, 0), (10, 0))
    for image, rest in ((colour, [10, 20, 30]), (grey, [10, 10, 10])):
        pixels = stored(image, "PNG")
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[1, 1].tolist() == rest
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        pixels = stored(palette, kind, transparency=0)
        assert (pixels[0, 0].tolist(), pixels[1, 1].tolist()) == ([255, 255, 255], [10, 20, 30])


def test_first_frame_of_several():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        pixels = stored(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (pixels == (255, 0, 0)).all()


def test_exif_orientation_is_applied(tmp_path):
    image = photograph("gradient_red", 1, 90, 60)
    for orientation in (3, 6, 8):
        path = tmp_path / f"{orientation}.jpg"
        save_turned(image, path, orientation)
        with Image.open(path) as file:
            assert file.size == ((90, 60) if orientation == 3 else (60, 90))
        result = read_picture(path)
        assert result.size == (90, 60)
        assert np.abs(np.asarray(result).astype(int) - np.asarray(image)).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter():
    image = photograph("circle", 1, 60, 60)
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9, b"Exif\0\0nonsense", b"Exif\0\0"):
        assert stored(image, "JPEG", exif=exif).shape == (60, 60, 3)


def test_broken_files_are_named(tmp_path):
    for name, problem in write_broken(tmp_path).items():
        with pytest.raises(TrainerError, match=rf"{name}: not a readable picture \("):
            read_picture(tmp_path / name)
        if name != "notes.txt":
            with pytest.raises(UnreadableError, match=problem):
                decode((tmp_path / name).read_bytes())
    with pytest.raises(TrainerError, match=r"none\.jpg: cannot be read \(No such file"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(TrainerError, match=r"cannot be read \(Is a directory"):
        read_picture(tmp_path)


def test_a_header_that_promises_too_much_is_refused():
    header = b"P6\n60000 60000\n255\n"
    with pytest.raises(UnreadableError, match="decompression bomb"):
        decode(header + bytes(100))
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    content = bytearray(png.getvalue())
    content[16:20] = struct.pack(">I", 9)
    with pytest.raises(UnreadableError):
        decode(bytes(content))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "height"), [(61, 40), (20, 33), (32, 32), (1, 5)])
def test_square_is_spec_3(width, height, channels):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    expected = oracle.resize(oracle.crop(oracle.convert(pixels, channels), *oracle.middle(width, height)), 32)
    assert np.array_equal(square(Image.fromarray(pixels), 32, channels), expected)


def test_large_pictures_are_fitted():
    stripe = np.tile(np.arange(9000) // 40 % 256, (30, 1)).astype(np.uint8)
    panorama = Image.fromarray(stripe).convert("RGB")
    assert fitted(panorama, 16).size == (30, 30)
    middle = np.ascontiguousarray(np.stack([stripe[:, 4485:4515]] * 3, 2))
    assert np.array_equal(square(panorama, 16, 3), square(Image.fromarray(middle), 16, 3))
    assert fitted(Image.new("RGB", (5000, 4200)), 32).size == (4096, 4096)
    assert fitted(Image.new("RGB", (4096, 3000)), 32).size == (4096, 3000)
    for size in (1, 2, 3):
        assert (square(Image.new("RGB", (4096, 4096), (9, 9, 9)), size, 3) == 9).all()
