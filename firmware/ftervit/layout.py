# SPDX-License-Identifier: MIT
"""The search for the cheapest layout of a plan (plan.Plan) where internal memory has limits."""

from ftervit.architecture import grids, packed_bytes, padded
from ftervit.costs import CACHED, DECODE, FLASH, MULTIPLY, READ, WRITE

# Overhead of a block of internal memory, at most, and the size below which a region is not used.
OVERHEAD, SMALLEST = 256, 8192
# Regions that a budget is cut into, at most; bytes that no network needs.
MOST_REGIONS, UNLIMITED = 8, 1 << 29
# What may be in PSRAM, by its bit in the number of a choice; scratch last.
EXTERNAL = ("qkv", "mixed", "stream", "hidden", "normed", "branch", "scratch")


def step_of(size: int) -> int:
    """The chip's allocator sorts free blocks by size, in 16 steps or more between two powers of two; this is a step."""
    unit = 1
    while size // unit >= 32:
        unit *= 2
    return unit


def fit(size: int) -> int:
    """Bytes of a free block that the chip's allocator is sure to give: it searches the blocks from the next step on."""
    return max(0, size) // step_of(size) * step_of(size)


def budget(
    sram: int | None, piece: int | None, reserve: int, free: list[int] | tuple[int, ...] | None
) -> tuple[list[int], int]:
    """Bytes that each region offers, the smallest first, and what each request for memory leaves in one block.

    free: the largest free block of each region, None where arenas lie in MicroPython's heap. The allocator takes the
    first region that has what is asked for, so that is where the reserve will be held.
    """
    most = UNLIMITED if sram is None else sram
    if free is None:
        offered, leave = [most] * MOST_REGIONS, 0
    else:
        offered = [fit(size) for size in free]
        leave = min(padded(reserve, step_of(reserve)), max([0] + offered))
        for i, size in enumerate(offered):
            if leave and size >= leave:
                offered[i] = fit(size - leave - OVERHEAD)
                break
        offered = [size - OVERHEAD for size in offered]
    regions = []  # type: list[int]
    for size in sorted(offered, reverse=True):
        size = min(size, most - sum(regions), most if piece is None else piece)
        if size >= (16 if free is None else SMALLEST):
            regions.append(size // 16 * 16)
    return sorted(regions), leave


def to_psram(plan, piece):
    """Move what lies in a piece to PSRAM: for who finds that there is no room for it after all."""
    for name, (number, _, size) in plan.places.items():
        if number == piece:
            plan.places[name] = None, 0, size
    plan.pieces[piece] = 0
    outside = [name for name in EXTERNAL if plan.places[name][0] is None]
    plan.cycles = plan.cost(plan.whole, plan.heads, plan.rows, outside)


class Search:
    """Sets regions, leave, rows, heads, whole, places, pieces, cycles, patch_rows and patch_bytes of a plan."""

    def __init__(self, plan, sram, piece, reserve, free):
        self.plan = plan
        plan.regions, plan.leave = budget(sram, piece, reserve, free)
        plan.cycles = None
        ideal = self.search(EXTERNAL)
        if plan.scratch_least < plan.scratch and not ideal:
            plan.scratch = plan.scratch_least
            self.search(EXTERNAL[:-1])
            plan.scratch = plan.places["scratch"][2]
        self.embedding()

    def search(self, external):
        """Attempt all ways, with some of these buffers in PSRAM; whether all are inside, for all tokens at once."""
        plan = self.plan
        for choice in range(1 << len(external)):
            in_psram = [name for bit, name in enumerate(external) if choice >> bit & 1]
            for whole, heads in self.ways():
                self.attempt(whole, heads, in_psram)
            if choice == 0 and plan.cycles is not None and plan.rows == plan.tokens:
                return True
        return False

    def ways(self):
        """(whole, heads) to try: all heads for some tokens at a time, or some heads for all tokens."""
        plan = self.plan
        heads = plan.sizes["num_heads"]
        ways = [(False, heads)]
        for count in range(heads, 0, -1):
            if heads % count == 0 and (count == heads or count * plan.width // heads % 16 == 0):
                ways.append((True, count))
        return ways

    def attempt(self, whole, heads, in_psram):
        """Keep the cheapest layout of this kind, if it is the best so far."""
        plan = self.plan
        if plan.cycles is not None and plan.cost(whole, heads, plan.tokens, in_psram, 0) >= plan.cycles:
            return
        if self.pack(whole, heads, 1, in_psram) is None:
            return
        low, high = 1, plan.tokens + 1  # tokens at a time that fit, and that do not
        while high - low > 1:
            rows = (low + high) // 2
            if self.pack(whole, heads, rows, in_psram) is None:
                high = rows
            else:
                low = rows
        most, before = high - 1, 0
        for passes in range((plan.tokens + most - 1) // most, plan.tokens + 1):
            rows = (plan.tokens + passes - 1) // passes
            cycles = plan.cost(whole, heads, rows, in_psram) if rows != before else None
            if cycles is not None and (plan.cycles is None or cycles < plan.cycles):
                plan.rows, plan.heads, plan.whole, plan.cycles = rows, heads, whole, cycles
                plan.places, plan.pieces, self.room = self.pack(whole, heads, rows, in_psram)
            if not in_psram:
                break  # more passes only cost more
            before = rows

    def pack(self, whole, heads, rows, in_psram):
        """Places, pieces and what could still be added to each piece but the stream's; None if it does not fit.

        Buffers of attention and MLP share memory. The stream is a piece of its own, as it has elements of its own.
        """
        plan = self.plan
        lasting, *phases = plan.needs(whole, heads, rows)
        regions = plan.regions
        places = {}  # type: dict[str, tuple[int | None, int, int]]
        inside = []  # type: list[list[tuple[str, int]]]
        for i, phase in enumerate([lasting] + phases):
            inside.append([])
            for name, size in phase if i == 0 else sorted(phase, key=lambda item: -item[1]):
                if name in in_psram:
                    places[name] = None, 0, size
                elif not regions or size > regions[-1]:
                    return None
                else:
                    inside[i].append((name, size))
        for choice in range(len(regions) ** len(inside[0])):
            found = self.assign(choice, inside, regions)
            if found is not None:
                return self.layout(found, places)
        return None

    def assign(self, choice, inside, regions):
        """One way to put what always lives into regions, the others where they fit: (name, region, offset, bytes) of
        each, what is left of each region, and what always lives there; None if that is impossible."""
        plan = self.plan
        left, used, found = list(regions), [0] * len(regions), []
        for name, size in inside[0]:
            choice, region = choice // len(regions), choice % len(regions)
            left[region] -= size
            if left[region] < 0:
                return None
            if name == "stream":
                stream = region
                found.append((name, region, 0, size))
            else:
                found.append((name, region, used[region], size))
                used[region] += size
        if plan.apart and found and found[0][0] == "stream":
            # Two pieces in a region.
            taken = found[0][3] + OVERHEAD
            rest = fit(regions[stream] + OVERHEAD - padded(taken, step_of(taken))) - OVERHEAD
            left[stream] = max(0, rest) - used[stream]
            if left[stream] < 0:
                return None
        for phase in inside[1:]:
            free, offset = list(left), list(used)
            for name, size in phase:
                # The smallest that will do leaves the most to the other one.
                fits = [(room, i) for i, room in enumerate(free) if room >= size]
                if not fits:
                    return None
                _, region = min(fits)
                found.append((name, region, offset[region], size))
                free[region] -= size
                offset[region] += size
        return found, left, used

    def layout(self, assigned, places):
        """What `pack` returns, of what `assign` found."""
        found, left, used = assigned
        pieces = []  # type: list[int]
        number, room = {}, []
        for name, region, offset, size in found:
            key = name if name == "stream" else region
            if key not in number:
                number[key] = len(pieces)
                pieces.append(0)
            piece = number[key]
            places[name] = piece, offset, size
            pieces[piece] = max(pieces[piece], offset + size)
        for region, size in enumerate(left):
            if region not in number:
                number[region] = len(pieces)
                pieces.append(0)
            room.append((number[region], used[region], size))
        return places, pieces, room

    def embedding(self):
        """Place patches and what the stem makes where blocks have their buffers later, or in PSRAM: what costs least.

        patch_rows, and "patches", "map0", "map1" in places: what every second convolution but the last makes.
        """
        plan = self.plan
        made = [padded(side * side * outputs) for _, outputs, side in plan.convolutions()][:-1]
        maps = [("map%d" % i, max(made[i::2])) for i in (0, 1) if made[i::2]]
        maps.sort(key=lambda item: -item[1])
        found = []
        for count in range(len(maps) + 1):
            for inside in (True, False):
                found.append(self.stem(maps[:count], maps[count:], inside))
        _, plan.patch_rows, places = min([way for way in found if way is not None], key=lambda way: way[0])
        for name, piece, offset, size in places:
            plan.places[name] = piece, offset, size
            if piece is not None:
                plan.pieces[piece] = max(plan.pieces[piece], offset + size)
        plan.patch_bytes = max(plan.patches())
        self.room = None

    def stem(self, outside, inside, patches_inside):
        """Cycles, rows of patches and places, for these maps in PSRAM and those in internal memory; None if they do not
        fit there."""
        plan = self.plan
        room = sorted([(size, used, piece) for piece, used, size in self.room])
        places = [(name, None, 0, size) for name, size in outside]
        for name, size in inside:
            fits = [i for i, (free, _, _) in enumerate(room) if free >= size]
            if not fits:
                return None
            free, used, piece = room[fits[0]]
            places.append((name, piece, used, size))
            room[fits[0]] = free - size, used + size, piece
            room.sort()
        if patches_inside and not room:
            return None
        free = room[-1][0] if patches_inside else CACHED // 2
        cycles, rows, most = 0.0, [], 0
        for (inputs, outputs, side), limit, (_, channels) in zip(
            plan.convolutions(), plan.most_patch_rows(), grids(plan.sizes)
        ):
            line = side * padded(inputs)
            if line > free and patches_inside:
                return None
            many = max(1, min(limit, free // line))
            passes = (side + many - 1) // many
            rows.append((side + passes - 1) // passes)
            most = max(most, rows[-1] * line)
            at_once = rows[-1]
            if channels % 16 == 0 and outputs % 16 == 0:  # its kernel finds all patches in the picture
                passes, at_once = 1, side
            elif not patches_inside:
                cycles += side * line * (WRITE + plan.reads_of(rows[-1] * line, outputs))
            waiting = max(0.0, FLASH - MULTIPLY * at_once * side / plan.cores)
            cycles += packed_bytes(outputs, inputs) * (DECODE / plan.cores + waiting) * passes
        made = [side * side * outputs for _, outputs, side in plan.convolutions()][:-1]
        for name, _ in outside:
            cycles += sum(made[int(name[-1]) :: 2]) * (2 * READ + 2 * WRITE)
        piece, used = (room[-1][2], room[-1][1]) if patches_inside else (None, 0)
        places.append(("patches", piece, used, padded(most)))
        return cycles, rows, places
