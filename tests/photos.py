# SPDX-License-Identifier: MIT
"""A small folder of photos with all that real ones have: sizes, orientations, modes, formats, broken files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("checker", "circle", "gradient_blue", "gradient_red")
TURNED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def circle(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A bright disc of any colour on a dark ground."""
    centre, radius = rng.uniform(0.4, 0.6, 2), rng.uniform(0.2, 0.35)
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return np.where(disc[..., None], rng.uniform(170, 255, 3), rng.uniform(0, 70, 3))


def checker(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Squares of two colours."""
    count = rng.integers(3, 6)
    field = (np.floor(y * count) + np.floor(x * count)) % 2
    return np.where(field[..., None] == 1, rng.uniform(140, 255, 3), rng.uniform(0, 90, 3))


def gradient(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, colour: int) -> np.ndarray:
    """A ramp from dark to one colour (0 red, 2 blue), as bright in grey for both."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5), 0, 1)
    pixels = np.full((*ramp.shape, 3), 20.0)
    # Weights of SPEC 3.2: the darker blue gets the green that makes it as bright as the red.
    pixels[..., colour] += 200 * ramp
    if colour == 2:
        pixels[..., 1] += 200 * ramp * (19595 - 7471) / 38470
    return pixels


def photograph(label: str, seed: int, width: int, height: int) -> Image.Image:
    """An RGB picture of the class `label`, with some noise."""
    rng = np.random.default_rng([CLASSES.index(label), seed])
    # In units of the shorter side, 0 to 1 in the middle square.
    side = min(width, height)
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = (y + 0.5 - (height - side) / 2) / side, (x + 0.5 - (width - side) / 2) / side
    draw = {
        "circle": circle,
        "checker": checker,
        "gradient_red": lambda *a: gradient(*a, 0),
        "gradient_blue": lambda *a: gradient(*a, 2),
    }[label]
    pixels = draw(rng, y, x) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save_turned(image: Image.Image, path: Path, orientation: int) -> None:
    """A JPEG stored turned, with the EXIF orientation that turns it back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.transpose(TURNED[orientation]).save(path, quality=92, exif=exif)


def save_odd(image: Image.Image, path: Path) -> None:
    """Another mode or format, as the suffix says: grey, CMYK, transparent, palette."""
    kind = path.stem.split("_")[-1]
    if kind == "grey":
        image.convert("L").save(path)
    elif kind == "cmyk":
        image.convert("CMYK").save(path)
    elif kind == "alpha":
        image.putalpha(Image.new("L", image.size, 255))
        image.save(path)
    else:
        image.quantize(64).save(path)


def write_class(folder: Path, label: str, count: int, first: int) -> None:
    """`count` pictures of one class: JPEGs, every third one turned; the last ones in other modes and formats."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(first)
    odd = [f"{count - 2}_alpha.png", f"{count - 1}_palette.gif"] if count >= 8 else []
    if odd and not label.startswith("gradient"):
        odd += [f"{count - 4}_cmyk.jpg", f"{count - 3}_grey.jpg"]
    for index in range(count):
        width, height = (int(side) for side in rng.integers(60, 401, 2))
        image = photograph(label, first + index, width, height)
        name = next((name for name in odd if name.startswith(f"{index}_")), None)
        if name:
            save_odd(image, folder / name)
        elif index % 3 == 1:
            save_turned(image, folder / f"{index}.jpg", (3, 6, 8)[index // 3 % 3])
        else:
            image.save(folder / f"{index}.jpg", quality=92)


def write_photos(root: Path, train: int = 12, val: int = 0, test: int = 0) -> Path:
    """root/class/.., or with `val` root/train/class/.. and so on; pictures per class; returns root."""
    parts = {"train": train, "val": val, "test": test} if val else {".": train}
    for number, (part, count) in enumerate(parts.items()):
        for label in CLASSES if count else ():
            write_class(root / part / label, label, count, 100_000 * number)
    return root


def jpeg(image: Image.Image) -> bytes:
    """A JPEG file's content."""
    content = io.BytesIO()
    image.save(content, "JPEG")
    return content.getvalue()


def write_broken(folder: Path) -> dict[str, str]:
    """Files that are no readable pictures; by name what is said of each."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = jpeg(photograph("circle", 0, 80, 60))
    floats = io.BytesIO()
    Image.new("F", (8, 8)).save(floats, "TIFF")
    contents = {
        "cut.jpg": (whole[: len(whole) // 2], "image file is truncated"),
        "empty.jpg": (b"", "empty"),
        "float.tiff": (floats.getvalue(), "floating-point pixels"),
        "text.png": (b"this is not a picture\n", "not a picture"),
        "notes.txt": (b"bought on Monday\n", "no picture's suffix"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {name: problem for name, (_, problem) in contents.items()}


def write_hidden(folder: Path) -> None:
    """What systems leave in folders."""
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.jpg"):
        (folder / name).write_bytes(b"\0")
    for name in (".thumbnails", "__MACOSX"):
        (folder / name).mkdir()
        (folder / name / "1.jpg").write_bytes(b"\0")
