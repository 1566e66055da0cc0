# SPDX-License-Identifier: MIT
"""How the board's resize (SPEC 3.4) differs from those that timm's models were trained and evaluated with.

Measured on one picture of each of tests/photos.py's classes, 1024 x 768 to 224 x 224, in steps of 1 / 255:

    timm's way                 max     mean
    bilinear                     1     0.15    SPEC 3.4 is Pillow's bilinear but for the last rounding
    bicubic                     18     0.46    at edges, which bicubic sharpens
    bicubic, crop_pct 0.9      221     9.23    another part of the picture

So a model trained with bilinear interpolation sees on the board what it saw in training, and a crop_pct below 1
matters far more than the interpolation.
"""

import numpy as np
from PIL import Image
from timm.data import create_transform

from trainer.data.decode import middle_square, square

# name: interpolation, crop_pct. timm cuts 1 - crop_pct off the edges; SPEC 3.3 takes the whole middle square.
WAYS = {
    "bilinear": ("bilinear", 1.0),
    "bicubic": ("bicubic", 1.0),
    "bicubic, crop_pct 0.9": ("bicubic", 0.9),
}


def resampling_difference(image: Image.Image, size: int = 224) -> dict[str, dict[str, float]]:
    """max and mean absolute difference, in steps of 1 / 255, of an RGB picture's square by SPEC 3 from timm's.

    Both start from the middle square. Keys: see WAYS.
    """
    board = square(image, size, 3).astype(np.int16)
    differences = {}
    for name, (interpolation, crop_pct) in WAYS.items():
        transform = create_transform(size, interpolation=interpolation, crop_pct=crop_pct, normalize=False)
        timm = transform(middle_square(image)).permute(1, 2, 0).numpy()
        difference = np.abs(board - timm)
        differences[name] = {"max": int(difference.max()), "mean": float(difference.mean())}
    return differences
