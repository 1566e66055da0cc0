# SPDX-License-Identifier: MIT
"""Sizes of a network and their limits (SPEC 10.4), and what follows: shapes between convolutions and of tensors."""

from ftervit.strictjson import shown

SIZES = (
    "img_size",
    "in_chans",
    "patch_size",
    "patch_stride",
    "patch_padding",
    "num_classes",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_hidden",
)
POOLINGS = ("token", "mean", "token+mean")  # SPEC 9.5
HEADS = ("ternary", "int8")  # SPEC 4.7, 4.8
STAGE = "patch_embed.backbone.%d"  # timm's name of a stage of the stem
MAX_STAGES = 8
# The kernels' limits; a test compares them with mpy_module/ternary.h.
MAX_PICTURE = 4096  # SPEC 3.1
MAX_IN_FEATURES = 4032  # SPEC 4
MAX_TOKENS = 2048  # SPEC 7
MAX_HEAD_WIDTH = 1024  # SPEC 7.1
MAX_PREFETCH = 32768  # bytes
MAX_VALUES = 1 << 26  # of an int8 picture between convolutions (SPEC 10.4): all that is planned fits 31 bits
PATCH_BYTES = 16 * 1024  # that a convolution takes for patches at a time if its kernel seldom needs them
# Smallest and largest value of each of a layer's integers, the kernels' limits, too (SPEC 10.6).
SCALES = {
    "residual_shift": (0, 8),  # SPEC 5.1
    "gain": (16384, 32767),  # SPEC 6
    "gain_shift": (0, 15),
    "beta": (0, 32639),
    "score_shift": (0, 15),  # SPEC 7.1
    "value_gain": (-1, 6),  # SPEC 7.5
    "frac": (-64, 64),  # no kernel reads it
}
# The same for the integers of `preprocessing` (SPEC 3.5).
PREPROCESSING = {"multiplier": (0, (1 << 22) - 1), "offset": (-(1 << 30), (1 << 30) - 1)}


def whole(value: object, low: int, high: int = 65535) -> bool:
    """Whether a value from JSON is a whole number from low to high."""
    return type(value) is int and low <= value <= high


def convolutions(sizes: dict) -> list:
    """(field, kernel, stride, padding, channels out) of each convolution of an architecture, in order (SPEC 10.4)."""
    found = [
        ("stem %d" % i, kernel, stride, padding, channels)
        for i, (channels, kernel, stride, padding) in enumerate(sizes["stem"])
    ]
    patch = (sizes["patch_size"], sizes["patch_stride"], sizes["patch_padding"])
    return found + [("patch_size",) + patch + (sizes["embed_dim"],)]


def grids(sizes: dict) -> list[tuple[int, int]]:
    """(side, channels) of the int8 picture and of what each convolution of an architecture makes of it (SPEC 4.6)."""
    side, channels = sizes["img_size"], sizes["in_chans"]
    found = [(side, channels)]
    for _, kernel, stride, padding, channels in convolutions(sizes):
        side = max(0, (side + 2 * padding - kernel) // stride + 1)
        found.append((side, channels))
    return found


def patch_rows(side: int, inputs: int, channels: int, outputs: int) -> int:
    """Rows of patches that a convolution cuts out at a time, of `side`: all of them, or PATCH_BYTES if its kernel finds
    patches in the picture (PIE and the reference do, in whole vectors of 16 channels)."""
    if channels % 16 or outputs % 16:
        return min(side, max(1, MAX_VALUES // (side * padded(inputs))))
    return min(side, max(1, PATCH_BYTES // (side * padded(inputs))))


def stem_problem(sizes: dict) -> tuple[str, str] | None:
    """`architecture_problem` of the stem alone, before anything is computed with it."""
    stem = sizes.get("stem")
    if type(stem) is not list or len(stem) > MAX_STAGES:
        return "architecture stem", "must be a list of at most %d convolutions" % MAX_STAGES
    for stage in stem:
        if type(stage) is not list or len(stage) != 4 or not all(whole(size, 0) for size in stage) or 0 in stage[:3]:
            why = "%s is not [channels, kernel, stride, padding], 1 to 65535 each, padding from 0"
            return "architecture stem", why % shown(stage)
    return None


def convolution_problem(sizes: dict) -> tuple[str, str] | None:
    """`architecture_problem` of stem and patch embedding (SPEC 4.6)."""
    shapes = grids(sizes)
    for i, (field, kernel, stride, padding, _) in enumerate(convolutions(sizes)):
        field = "architecture " + field
        if not 1 <= stride <= kernel:
            return field, "stride %d, must be 1 to the kernel's %d" % (stride, kernel)
        if padding >= kernel:
            return field, "padding %d, must be below the kernel's %d" % (padding, kernel)
        inputs = kernel * kernel * shapes[i][1]
        if inputs > MAX_IN_FEATURES:
            return field + ", values of a patch", "%d, at most %d" % (inputs, MAX_IN_FEATURES)
        side, new_side = shapes[i][0], shapes[i + 1][0]
        if not new_side:
            return field, "kernel %d does not fit a picture of %d" % (kernel, side)
        if new_side > MAX_PICTURE:
            return field, "makes a picture of %d, at most %d" % (new_side, MAX_PICTURE)
        values = new_side * new_side * shapes[i + 1][1]
        if values > MAX_VALUES:
            return field, "makes a picture of %d values, at most %d" % (values, MAX_VALUES)
    return None


def architecture_problem(sizes: dict) -> tuple[str, str] | None:
    """What is wrong with the metadata `architecture` as (field, why), or None (SPEC 10.4)."""
    if type(sizes) is not dict:
        return "architecture", "must be a JSON object"
    for key in SIZES:
        low = 0 if key == "patch_padding" else 1
        if not whole(sizes.get(key), low):
            return "architecture " + key, "%s is not a whole number from %d to 65535" % (shown(sizes.get(key)), low)
    if type(sizes.get("name")) is not str:
        return "architecture name", "must be a text"
    for key, known in (("pool", POOLINGS), ("head", HEADS)):
        value = sizes.get(key, HEADS[0] if key == "head" else None)  # version 2 has no `head`
        if value not in known:
            return "architecture " + key, "%s, must be one of %s" % (shown(value), ", ".join(known))
    if sizes["in_chans"] not in (1, 3):
        return "architecture in_chans", "%d, must be 1 or 3" % sizes["in_chans"]
    if sizes["img_size"] > MAX_PICTURE:
        return "architecture img_size", "%d, at most %d" % (sizes["img_size"], MAX_PICTURE)
    problem = stem_problem(sizes) or convolution_problem(sizes)
    if problem:
        return problem
    if sizes["embed_dim"] % sizes["num_heads"]:
        return "architecture num_heads", "embed_dim must be a multiple of it"
    for field, value, limit in (
        ("patch_size, tokens", 1 + grids(sizes)[-1][0] ** 2, MAX_TOKENS),
        ("embed_dim", sizes["embed_dim"], MAX_IN_FEATURES),
        ("mlp_hidden", sizes["mlp_hidden"], MAX_IN_FEATURES),
        ("pool, features", feature_count(sizes["embed_dim"], sizes["pool"]), MAX_IN_FEATURES),
        ("num_heads, width of a head", sizes["embed_dim"] // sizes["num_heads"], MAX_HEAD_WIDTH),
    ):
        if value > limit:
            return "architecture " + field, "%d, at most %d" % (value, limit)
    return None


def feature_count(width: int, pooling: str) -> int:
    """Values that the head gets from tokens of this width (SPEC 9.5)."""
    return width * (1 + (pooling == POOLINGS[2]))


def padded(size: int, unit: int = 16) -> int:
    """`size` rounded up to a multiple of `unit`."""
    return (size + unit - 1) // unit * unit


def packed_bytes(outputs: int, inputs: int) -> int:
    """Bytes of packed weights of a linear layer (SPEC 2.6)."""
    return padded(outputs) * ((inputs + 4) // 5)


def packed_shape(shape: list[int]) -> list[int]:
    """Stored shape of trits with the logical shape [N, K] (SPEC 2.6) or [D] (SPEC 2.7)."""
    if len(shape) == 2:
        return [(shape[0] + 15) // 16, (shape[1] + 4) // 5, 16]
    return [((shape[0] + 15) // 16 + 4) // 5, 16]


def product(shape: list[int]) -> int:
    """Number of elements of a shape."""
    count = 1
    for size in shape:
        count *= size
    return count
