# SPDX-License-Identifier: MIT
"""How long a network takes on an ESP32-S3, estimated from the sizes of its layers and its plan: modelled, not measured.

Cycles are sums of counts, each times a coefficient of TABLE, which `just cost-curve --fit` fits to networks whose
machine code ran on the simulated chip. docs/numbers.md says how far estimates are off.
"""

from ftervit.architecture import MAX_PREFETCH, convolutions, grids, packed_bytes, padded
from ftervit.costs import CACHED, FLASH, MULTIPLY

CLOCK = 240_000_000  # Hz
SPEEDUP = 1.6  # of two cores, where they do not wait for flash or PSRAM (host_sim/lx7/timing.py)

# Part -> cycles for each of its `counts`.
# Written by `just cost-curve --fit`.
TABLE = {
    "linear": (1.064, 17.83, 16.87, 333.2, 2818, 0.07656),
    "convolution": (0.9681, 60.35, 13.12, 0, 12620, 1.629, 1.022, 62.49, 20.59, 99.53, 9443, 0),
    "attention": (0.1195, 8.771, 159.1, 3.416, 76.64, 268.6, 1965, 6.311),
    "layernorm": (2.402, 315.9, 3460),
    "lookup": (1.5, 841.5),
    "residual": (0.5593, 379.7),
    "logits": (4.258, 986.9, 800.9),
    "waiting": (
        4.086,
        1.456,
        0.4705,
        0,
        8.157,
        5.404,
        0.7405,
        0.3753,
        12.78,
        7.732,
        5.482,
        6.724,
        7.906,
        0.1426,
        0.2598,
        0.1226,
        18.74,
        4.401,
        50.11,
        0,
        0.7569,
        8.428,
    ),
}


def linear(inputs, outputs, rows, passes, slices=1):
    """Counts of a linear layer: products of 16 weights, sums, groups of 80 weights decoded, tiles, calls."""
    tiles = (outputs + 15) // 16
    return [rows * tiles * inputs, rows * tiles * slices, tiles * ((inputs + 4) // 5) * passes, tiles * passes, passes]


def slices_of(plan):
    """Slices in which fc2's weights are decoded: one, if there is room for all (mpy_module/linear.c)."""
    if plan.scratch == plan.scratch_most:
        return 1
    room = (plan.scratch - 4096) // plan.cores - 64 * min(plan.rows, 64)
    return max(1, -(-plan.hidden // max(400, room // 1280 * 80)))


def blocks_of(plan):
    """Blocks of rows that attention computes at a time for a head (mpy_module/attention.c)."""
    most = min(32, max(4, 8192 // padded(plan.tokens)))
    return -(-plan.tokens // (most if plan.scratch == plan.scratch_most else min(most, 10)))


def taps(side, kernel, stride, padding, new):
    """Pixels inside of a picture that windows have in one direction, for all windows."""
    starts = range(-padding, new * stride - padding, stride)
    return sum(min(side, start + kernel) - max(0, start) for start in starts)


def added(*counts):
    """Sums of counts, place by place."""
    return [sum(column) for column in zip(*counts)]


def counts(plan):
    """Part -> what its cycles are proportional to, of one picture. "waiting" is for flash and PSRAM."""
    sizes = plan.sizes
    depth, heads, width, hidden, tokens = sizes["depth"], sizes["num_heads"], plan.width, plan.hidden, plan.tokens
    at_first = tokens if plan.whole else plan.rows
    first, passes, groups = plan.passes(at_first), plan.passes(plan.rows), heads // plan.heads
    head_width = width // heads
    layers = added(
        linear(width, 3 * width, tokens, first),
        linear(width, width, tokens, passes),
        linear(width, hidden, tokens, passes),
        linear(hidden, width, tokens, passes, slices_of(plan)),
    ) + [2 * depth * tokens * width]  # added to the residual stream
    shapes, patches, direct = grids(sizes), [0] * 6, [0] * 6
    for (_, kernel, stride, padding, outputs), (side, channels), (new, _) in zip(
        convolutions(sizes), shapes, shapes[1:]
    ):
        inputs, pixels = kernel * kernel * channels, new * new
        one = linear(inputs, outputs, pixels, 1)
        if channels % 16 or outputs % 16:
            patches = added(patches, one + [pixels * padded(inputs)])
        else:
            # Padding is not multiplied; windows are found in the picture, row by row.
            inside, tiles = taps(side, kernel, stride, padding, new), (outputs + 15) // 16
            one[0] = inside * inside * channels * tiles
            direct = added(direct, one + [inside * new * tiles])
    made = [side * side * outputs for side, outputs in shapes[1:-1]]
    classes, features = sizes["num_classes"], width
    return {
        "linear": [depth * count for count in layers],
        "convolution": patches + direct,
        "attention": [
            depth * heads * tokens * tokens * head_width * (head_width % 16 == 0),
            depth * heads * tokens * tokens * head_width * (head_width % 16 > 0),  # by the portable kernels
            depth * heads * tokens * head_width * (head_width % 16 > 0),
            depth * heads * tokens * tokens,
            depth * heads * tokens * ((head_width + 15) // 16),
            depth * heads * tokens,
            depth * groups,
            depth * heads * blocks_of(plan) * ((tokens + 15) // 16 + (head_width + 15) // 16),
        ],
        "layernorm": [(2 * depth * tokens + 1) * padded(width), 2 * depth * tokens + 1, depth * (passes + first) + 1],
        "lookup": [depth * tokens * hidden + sum(made), depth * passes + len(made)],
        "residual": [2 * tokens * width, 3],
        "logits": [((classes + 15) // 16) * features, (classes + 15) // 16, 1],
        "waiting": waiting(plan, first, passes),
    }


def waiting(plan, first, passes):
    """Counts of bytes that come from flash, and from and to PSRAM."""
    sizes, outside = plan.sizes, [name for name, (piece, _, _) in plan.places.items() if piece is None]
    depth, heads, width, hidden, tokens = sizes["depth"], sizes["num_heads"], plan.width, plan.hidden, plan.tokens
    qkv, others = packed_bytes(3 * width, width), packed_bytes(width, width) + 2 * packed_bytes(width, hidden)
    at_first = tokens if plan.whole else plan.rows
    late = [max(0.0, FLASH - MULTIPLY * rows / plan.cores) for rows in (at_first, plan.rows)]
    shapes = grids(sizes)
    side, channels = shapes[0]
    cut = kernels = kernels_late = maps = 0
    for i, (inputs, outputs, new) in enumerate(plan.convolutions()):
        packed = packed_bytes(outputs, inputs)
        if shapes[i][1] % 16 or outputs % 16:
            cut += packed
        else:
            kernels += packed // ((outputs + 15) // 16) * plan.cores  # the first tiles
            kernels_late += packed * max(0.0, FLASH - MULTIPLY * new * new / plan.cores)
        if i < len(shapes) - 2 and "map%d" % (i % 2) in outside:
            maps += new * new * outputs
    # Position embeddings come with the weights before them, if one prefetch holds both.
    positions = (tokens - 1) * width * (packed + (tokens - 1) * width > MAX_PREFETCH)
    # Weights of a block that one prefetch holds come while others are used; of more than two, all may be late.
    late_part = min(1.0, max(0, qkv + others - MAX_PREFETCH) / MAX_PREFETCH)
    blocks_late = depth * (qkv * first * late[0] + others * passes * late[1]) * late_part
    stream = tokens * width
    panels = depth * (qkv * first + others * passes) if "scratch" in outside else 0
    group = tokens * plan.group(plan.heads)
    # What attention reads for each token: values of a head, and its keys if they are gathered in PSRAM.
    value = tokens * width // heads
    head = 2 * value if "scratch" in outside else value if "qkv" in outside else 0
    again = [depth * tokens * heads * max(0, head - size) for size in (CACHED // 2, CACHED, CACHED * 3 // 2)]
    tiles = (width + 15) // 16
    at_once = tiles if 2 * plan.rows * hidden > CACHED else 1  # reads of the hidden layer
    return [
        packed_bytes(sizes["num_classes"], width),
        cut,
        kernels,
        kernels_late,
        positions,
        side * side * channels,
        blocks_late * (plan.cores == 1),
        blocks_late * (plan.cores > 1),
        (2 * depth + 1) * stream * ("stream" in outside),
        (depth + 1) * stream * ("mixed" in outside),
        (depth + 1) * stream * ("mixed" in outside and stream > CACHED // 2),
        3 * depth * stream * ("qkv" in outside and (plan.heads == heads or group > CACHED)),
        depth * stream * ("qkv" in outside and plan.heads < heads and group <= CACHED),
        again[0],
        again[1],
        again[2],
        depth * stream * ("normed" in outside),
        depth * tokens * hidden * at_once * ("hidden" in outside),
        depth * stream * ("branch" in outside),
        panels * (plan.cores == 1),
        panels * (plan.cores > 1),
        maps,
    ]


def cycles(plan):
    """(cycles of computing, cycles of waiting for flash and PSRAM) of one picture, on one core."""
    found = {part: sum(a * b for a, b in zip(numbers, TABLE[part])) for part, numbers in counts(plan).items()}
    external = found.pop("waiting")
    return sum(found.values()), external


def times(plan):
    """Seconds for one picture with the plan's cores, and those of them that wait for flash and PSRAM."""
    inside, external = cycles(plan)
    return (inside / (1 if plan.cores == 1 else SPEEDUP) + external) / CLOCK, external / CLOCK


def seconds(plan):
    """Seconds for one picture with the plan's cores."""
    return times(plan)[0]
