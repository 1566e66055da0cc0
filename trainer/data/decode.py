# SPDX-License-Identifier: MIT
"""Decode picture files to RGB, and crop and resize them as the board does."""

import hashlib
import io
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from host_sim.setup.package import import_ftervit
from trainer.data.settings import LARGEST_SIDE
from trainer.errors import TrainerError

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jfif", ".jpe"),
    *(".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
)
ADVICE: dict[str, str] = {}  # by suffix of pictures that are not read

HEIC = (".heic", ".heif")  # photos of phones, read where the package pillow-heif is installed
HEIC_ADVICE = "HEIC: convert it to JPEG, or `.venv/bin/pip install pillow-heif` to have it read"
try:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)
    SUFFIXES += HEIC
except ImportError:
    ADVICE |= dict.fromkeys(HEIC, HEIC_ADVICE)

AVIF = ".avif"
if features.check("avif"):
    FORMATS += ("AVIF",)
    SUFFIXES += (AVIF,)
else:
    ADVICE[AVIF] = "AVIF: Pillow 11.3 or newer reads it"

# Pillow also warns about pictures that it reads correctly.
warnings.filterwarnings("ignore", module=r"PIL\.")


def suffix_advice(name: str) -> str:
    """What to do about a file whose suffix is of a picture that is not read; "" for any other."""
    return next((advice for suffix, advice in ADVICE.items() if name.lower().endswith(suffix)), "")


class UnreadableError(ValueError):
    """Content that is not a picture, or only part of one."""


def upright(image: Image.Image) -> Image.Image:
    """Rotated as the EXIF orientation says; a damaged EXIF block is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: transparency over white, the upper 8 of 16 bits."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableError("floating-point pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode(content: bytes) -> Image.Image:
    """The picture (of several the first) in a file's content, upright, mode RGB; UnreadableError says why not."""
    if not content:
        raise UnreadableError("empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.load()
            return as_rgb(upright(image))
    except (MemoryError, UnreadableError):
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not a picture") from None
    except Exception as error:  # Pillow raises many kinds, from struct.error to SyntaxError
        raise UnreadableError(str(error) or type(error).__name__) from None


def read_file(path: Path) -> bytes:
    """A file's content; TrainerError names a file that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrainerError(f"{path}: cannot be read ({error.strerror})") from None


def content_digest(content: bytes) -> str:
    """The digest that identifies a file's content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_picture(path: Path, digest: str = "") -> Image.Image:
    """The picture of a file, upright, mode RGB; TrainerError names a file that has none.

    digest: of the content that is wanted, "" if any is.
    """
    content = read_file(path)
    try:
        image = decode(content)
    except UnreadableError as error:
        raise TrainerError(f"{path}: not a readable picture ({error})") from None
    if digest and content_digest(content) != digest:
        raise TrainerError(f"{path}: replaced by another picture since the run began to read the folder")
    return image


def middle_square(image: Image.Image) -> Image.Image:
    """SPEC 3.3."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def fitted(image: Image.Image, size: int) -> Image.Image:
    """A picture that SPEC 3 accepts: of one with a side above 4,096 only the middle square is kept.

    Pillow shrinks a square that is still too large (SPEC 3.4 has a lower limit for a `size` below 4).
    """
    if max(image.size) > LARGEST_SIDE:
        image = middle_square(image)
    limit = min(LARGEST_SIDE, math.isqrt(size << 22))
    if min(image.size) > limit:
        image = middle_square(image).resize((limit, limit), Image.Resampling.BILINEAR)
    return image


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """uint8 [size, size, channels] of an RGB picture, by the board's own code (SPEC 3.2 to 3.4)."""
    image = fitted(image, size)
    pixels = import_ftervit().Image(image.tobytes(), *image.size, 3).square(size, channels)
    return np.frombuffer(pixels, np.uint8).reshape(size, size, channels)
