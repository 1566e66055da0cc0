# SPDX-License-Identifier: MIT
"""What a Learner's head is made of (SPEC 12), and its limits."""

import ternary

from ftervit.vit import UNKNOWN

MAX_PICTURES = 1024
MAX_CLASSES = 100
MAX_LABEL = 48  # bytes
# SPEC 12.11; ridges have 14 fractional bits.
RIDGES = (1024, 8192)
SPAN_RIDGE = 1024
MAX_DIRECTIONS = 36
# Directions fill a file of 4 KB and 1 KB a class, up to 512 bytes, and 64 bytes a class, for all else.
FIXED_ROOM, CLASS_ROOM = 4096 - 512, 1024 - 64
SHARPNESS = 768, 1216  # 8 fractional bits


def directions_of(pictures, width, classes):
    """How many directions a head has (SPEC 12.11)."""
    room = FIXED_ROOM + classes * (CLASS_ROOM - width)
    return max(1, min(pictures, MAX_DIRECTIONS, room // bytes_of(width)))


def bytes_of(width):
    """Of a direction: two features in one (SPEC 12.7)."""
    return (width + 1) // 2


class Head:
    """What decides (SPEC 12.5 to 12.10), in integers.

    weights: int8 [classes, width]; multiplier, bias: int32 [classes]; directions: m of `bytes_of` bytes; limit, spread:
    of distances, 16 fractional bits; sharpness: 8 fractional bits.
    """

    def __init__(self, width, classes, directions):
        self.width, self.classes = width, classes
        self.weights = ternary.heap(classes * width)
        self.multiplier, self.bias = ternary.heap(4 * classes, "i"), ternary.heap(4 * classes, "i")
        self.directions = ternary.heap(directions * bytes_of(width), "B")
        self.limit, self.spread, self.sharpness = 0, 0, SHARPNESS[0]

    def fit(self, features, labels, gram, scratch):
        """Fit everything to features int8 [n, width], their classes uint8 [n] and products (SPEC 12.2)."""
        count = len(labels)
        numbers = ternary.heap(4 * count, "i")
        ridges, moments = ternary.heap(4 * len(RIDGES), "i"), ternary.heap(8, "i")
        for i, ridge in enumerate(RIDGES):
            ridges[i] = ridge
        ternary.ridge_fit(features, labels, gram, ridges, self.weights, self.multiplier, self.bias, numbers, scratch)
        ternary.moments(numbers, moments)
        self.sharpness = sharpness_of(moments[0], moments[1])
        ternary.span_fit(features, gram, SPAN_RIDGE, self.directions, numbers, scratch)
        ternary.moments(numbers, moments)
        self.limit, self.spread = limit_of(numbers, moments[0], moments[1]), moments[1]

    def __call__(self, x):
        """Scores int32 [classes], 16 fractional bits, and distance of features int8 [width]."""
        scores = ternary.heap(4 * self.classes, "i")
        ternary.ridge_scores(x, self.weights, self.multiplier, self.bias, scores)
        return scores, ternary.span_distance(x, self.directions)


def limit_of(distances, mean, deviation):
    """SPEC 12.9: above which a picture is unknown, from the distances of the taught ones and their moments."""
    count = len(distances)
    largest = ternary.heap(4 * max(1, (count + 1) // 20), "i")
    ternary.topk(distances, largest)
    limit = distances[largest[-1]]
    # Of fewer than 19 pictures not even the largest distance is one that 95 % of others stay below.
    return limit if count >= 19 else max(limit, mean + 9 * deviation // 4)


def sharpness_of(mean, deviation):
    """SPEC 12.10: by how much scores of 1 raise the odds, from the margins of pictures left out."""
    low, high = SHARPNESS
    if mean <= 0:
        return low
    return max(low, min(high, (mean << 25) // (deviation * deviation + 1)))


def check_label(label):
    """ValueError unless a class may have this name."""
    if type(label) is not str:
        raise ValueError("label is %r, must be a text" % (label,))
    size = len(label.encode())
    if not 1 <= size <= MAX_LABEL:
        raise ValueError("label has %d bytes, needs 1..%d" % (size, MAX_LABEL))
    if label == UNKNOWN:
        raise ValueError("label is '%s', which is what predict says of pictures that are like none taught" % UNKNOWN)
    if label != label.strip() or min(label.encode()) < 32:
        raise ValueError("label %r begins or ends with a space, or has a control character" % label)
