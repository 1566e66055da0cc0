# SPDX-License-Identifier: MIT
"""Histograms of oriented gradients with a linear SVM: what a network on own photos must beat.

python hog_svm.py TRAIN TEST OUT: folders with a folder for each class, and a file that gets the part of the test
pictures that are right, in percent. It needs scikit-image and scikit-learn and nothing of this project: `just
own-pictures` gives it an environment of its own.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.feature import hog
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

SIDE = 64


def described(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Histograms [count, F] and classes of the pictures of a folder."""
    rows, classes = [], []
    for path in sorted(folder.glob("*/*")):
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        histograms = hog(np.asarray(image), 9, (8, 8), (2, 2), channel_axis=2)
        # Colours, too, as a histogram of each channel does not know where they are.
        small = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), float).ravel() / 255
        rows.append(np.concatenate([histograms, small]))
        classes.append(path.parent.name)
    return np.array(rows), classes


def main() -> None:
    """Fit to TRAIN, count on TEST."""
    (x, y), (unseen, wanted) = (described(Path(folder)) for folder in sys.argv[1:3])
    best = make_pipeline(StandardScaler(), LinearSVC(C=0.001, max_iter=5000)).fit(x, y)
    right = 100 * float((best.predict(unseen) == np.array(wanted)).mean())
    Path(sys.argv[3]).write_text(f"{right:.2f}\n")


if __name__ == "__main__":
    main()
