# SPDX-License-Identifier: MIT
"""Where a network's activations lie, and in how many passes its layers go over their tokens.

Plan(file.architecture) finds the cheapest way within the internal memory that is free, less what it leaves to others;
Plan(file.architecture, sram=192 * 1024, piece=100 * 1024) within less. Print it to see what goes where.
VisionTransformer.load(path, ...) makes and follows it.
"""

import ternary

from ftervit.modelfile import SIZES, convolutions, grids

# Cycles per byte at 240 MHz: packed weights from flash, PSRAM behind the cache, a line of 64 bytes at a time
# (host_sim/lx7/timing.py has the sources). They only rank plans.
FLASH, READ, WRITE = 7.5, 2.7, 3.2
# Cycles per packed byte that decoding takes, and multiplying for each token (80 trits in 16 bytes: 5 * 17 / 16 cycles);
# meanwhile the next weights come from flash.
DECODE, MULTIPLY = 1.13, 0.332
# What stays in the data cache of 64 KB between two uses while weights stream through it.
CACHED = 40 * 1024
# Bytes that stay free in one block of internal memory unless `reserve` says otherwise: Wi-Fi and cameras need it.
RESERVE = 64 * 1024
# What a block of internal memory takes beside its bytes, at most, and regions that are too small to be worth it.
OVERHEAD, SMALLEST = 256, 8192
# Regions that a budget is cut into, at most; bytes that no network needs.
MOST_REGIONS, UNLIMITED = 8, 1 << 29
BUFFERS = ("stream", "scratch", "mixed", "normed", "qkv", "branch", "hidden", "patches", "map0", "map1")
# What may lie in PSRAM, by its bit in the number of a choice.
EXTERNAL = ("qkv", "mixed", "stream", "hidden", "normed", "branch", "scratch")


def round_up(count, unit=16):
    """The next multiple."""
    return (count + unit - 1) // unit * unit


def packed_bytes(outputs, inputs):
    """Bytes of packed weights of a linear layer (SPEC 2.6)."""
    return round_up(outputs) * ((inputs + 4) // 5)


def step_of(size):
    """The chip's allocator sorts free blocks by size, in 16 steps or more between two powers of two; this is a step."""
    unit = 1
    while size // unit >= 32:
        unit *= 2
    return unit


def fit(size):
    """What the chip's allocator gives for sure of a free block: it looks among those from the next step on."""
    return max(0, size) // step_of(size) * step_of(size)


def budget(sram, piece, reserve, free):
    """Bytes that each region offers, the smallest first, None for no limit; and what each request for memory leaves.

    free: the largest free block of each region, None where arenas lie in MicroPython's heap. The allocator takes the
    first region that has what is asked for, so that is where the reserve will be held.
    """
    most = UNLIMITED if sram is None else sram
    if free is None:
        if sram is None and piece is None:
            return None, 0
        offered, leave = [most] * MOST_REGIONS, 0
    else:
        offered = [fit(size) for size in free]
        leave = min(round_up(reserve, step_of(reserve)), max([0] + offered))
        for i, size in enumerate(offered):
            if leave and size >= leave:
                offered[i] = fit(size - leave - OVERHEAD)
                break
        offered = [size - OVERHEAD for size in offered]
    regions = []
    for size in sorted(offered, reverse=True):
        size = min(size, most - sum(regions), most if piece is None else piece)
        if size >= (16 if free is None else SMALLEST):
            regions.append(size // 16 * 16)
    return sorted(regions), leave


class Plan:
    """A layout for the cores that are in use. Sizes in bytes.

    sram, piece: limits of its internal memory in all and of each piece, None for none; reserve: what stays free in one
    block of internal memory; free: the largest free block of each region, by default as ternary.internal() says.

    cores: that it is for; regions: bytes that each region of internal memory offers, None where there is no limit;
    leave: what each piece leaves in one block; rows: tokens that go through proj and MLP at a time; heads: that are
    projected to q, k and v at a time; whole: whether the first LayerNorm of a block takes all tokens at once (otherwise
    `rows`); patch_rows: for each convolution, rows of patches that are cut out at a time; places: name -> (piece or
    None for PSRAM, offset, bytes); pieces: bytes of each piece of SRAM; cycles: modelled, that decoding weights and
    waiting for flash and PSRAM take in all blocks.
    """

    def __init__(self, sizes, sram=None, piece=None, reserve=RESERVE, free=None):
        # Keys that JSON made would stay on the heap with the plan.
        self.sizes = {key: sizes[key] for key in SIZES + ("stem",)}
        self.cores = ternary.cores()
        free = ternary.internal() if free is None else free
        self.apart = free is not None  # from MicroPython's heap
        self.regions, self.leave = budget(sram, piece, reserve, free)
        self.tokens = 1 + grids(sizes)[-1][0] ** 2
        self.width, self.hidden = sizes["embed_dim"], sizes["mlp_hidden"]
        self.scratch = self._scratch()
        self.cycles = None
        for choice in range(1 << len(EXTERNAL)):
            in_psram = [name for bit, name in enumerate(EXTERNAL) if choice >> bit & 1]
            for whole, heads in self._ways():
                self._try(whole, heads, in_psram)
            if choice == 0 and self.cycles is not None and self.rows == self.tokens:
                break
        if self.regions is None:
            self.patch_rows = [side for side, _ in grids(sizes)[1:]]
            self.patch_bytes = max(self._patches())
        else:
            self._embedding()

    def _scratch(self):
        """Bytes for the scratch of any layer."""
        head_width = self.width // self.sizes["num_heads"]
        most = max(ternary.linear_scratch(self.width), ternary.linear_scratch(self.hidden))
        most = max(most, ternary.layernorm_scratch(self.width), ternary.attention_scratch(self.tokens, head_width))
        for inputs, _, _ in self._convolutions():
            most = max(most, ternary.linear_scratch(inputs))
        return round_up(most)

    def _convolutions(self):
        """(inputs, outputs, side) of each convolution: of its linear layer, and of the square that it makes."""
        shapes = grids(self.sizes)
        for i, (_, kernel, _, _, outputs) in enumerate(convolutions(self.sizes)):
            yield kernel * kernel * shapes[i][1], outputs, shapes[i + 1][0]

    def _ways(self):
        """(whole, heads) to try: all heads for some tokens at a time, or some heads for all tokens."""
        heads = self.sizes["num_heads"]
        ways = [(False, heads)]
        for count in range(heads, 0, -1):
            if heads % count == 0 and (count == heads or count * self.width // heads % 16 == 0):
                ways.append((True, count))
        return ways

    def _needs(self, whole, heads, rows):
        """(name, bytes) of all buffers: those that always live, those of attention, those of the MLP."""
        stream, group = self.tokens * self.width, 3 * self.width * heads // self.sizes["num_heads"]
        lasting = ("stream", 2 * stream), ("mixed", stream), ("scratch", self.scratch)
        attention = ("qkv", self.tokens * group), ("normed", (self.tokens if whole else rows) * self.width)
        mlp = ("hidden", rows * self.hidden), ("branch", rows * self.width)
        return [[(name, round_up(size)) for name, size in phase] for phase in (lasting, attention, mlp)]

    def _try(self, whole, heads, in_psram):
        """Keep the cheapest layout of this kind, if it is the best so far."""
        if self.cycles is not None and self._cost(whole, heads, self.tokens, in_psram, 0) >= self.cycles:
            return
        if self._pack(whole, heads, 1, in_psram) is None:
            return
        low, high = 1, self.tokens + 1  # tokens at a time that fit, and that do not
        while self.regions is not None and high - low > 1:
            rows = (low + high) // 2
            if self._pack(whole, heads, rows, in_psram) is None:
                high = rows
            else:
                low = rows
        most, before = high - 1, 0
        for passes in range((self.tokens + most - 1) // most, self.tokens + 1):
            rows = (self.tokens + passes - 1) // passes
            cycles = self._cost(whole, heads, rows, in_psram) if rows != before else None
            if cycles is not None and (self.cycles is None or cycles < self.cycles):
                self.rows, self.heads, self.whole, self.cycles = rows, heads, whole, cycles
                self.places, self.pieces, self.room = self._pack(whole, heads, rows, in_psram)
            if not in_psram:
                break  # more passes only cost more
            before = rows

    def _pack(self, whole, heads, rows, in_psram):
        """Places, pieces and what could still be added to each piece but the stream's; None if it does not fit.

        Buffers of attention and MLP share memory. The stream is a piece of its own, as it has elements of its own.
        """
        lasting, *phases = self._needs(whole, heads, rows)
        regions = [UNLIMITED] if self.regions is None else self.regions
        places, inside = {}, []
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
            found = self._assign(choice, inside, regions)
            if found is not None:
                return self._layout(found, places)
        return None

    def _assign(self, choice, inside, regions):
        """One way to put what always lives into regions, the others where they fit: (name, region, offset, bytes) of
        each, what is left of each region, and what always lives there; None if that is impossible."""
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
        if self.apart and found and found[0][0] == "stream":
            # Two pieces in a region.
            taken = found[0][3] + OVERHEAD
            rest = fit(regions[stream] + OVERHEAD - round_up(taken, step_of(taken))) - OVERHEAD
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

    def _layout(self, assigned, places):
        """What _pack returns, of what _assign found."""
        found, left, used = assigned
        pieces, number, room = [], {}, []
        for name, region, offset, size in found:
            key = name if name == "stream" else region
            if key not in number:
                number[key] = len(pieces)
                pieces.append(0)
            piece = number[key]
            places[name] = piece, offset, size
            pieces[piece] = max(pieces[piece], offset + size)
        for region, size in enumerate(left):
            if region not in number and self.regions is not None:
                number[region] = len(pieces)
                pieces.append(0)
            room.append((number.get(region), used[region], size))
        return places, pieces, room

    def _reads(self, size, outputs):
        """Cycles for each byte that a linear layer reads from PSRAM, of `size` bytes at a time."""
        return READ if size <= CACHED else READ * ((outputs + 15) // 16)

    def _weights(self, packed, rows):
        """Cycles that decoding packed weights takes, and waiting for them, for all tokens, `rows` at a time."""
        waiting = max(0.0, FLASH - MULTIPLY * rows / self.cores)
        return packed * (DECODE / self.cores + waiting) * self._passes(rows)

    def _passes(self, rows):
        """Passes over all tokens, `rows` at a time."""
        return (self.tokens + rows - 1) // rows

    def _cost(self, whole, heads, rows, in_psram, reads=None):
        """Cycles that all blocks decode and wait for flash and PSRAM; reads: as if layers read so many rows at a time,
        0 for a lower bound."""
        width, hidden, stream = self.width, self.hidden, self.tokens * self.width
        first = self.tokens if whole else rows
        again = rows if reads is None else reads
        packed = packed_bytes(3 * width, width), packed_bytes(width, width) + 2 * packed_bytes(width, hidden)
        cycles = self._weights(packed[0], first) + self._weights(packed[1], rows)
        if "stream" in in_psram:
            cycles += 2 * stream * (3 * READ + 2 * WRITE)
        if "mixed" in in_psram:
            cycles += stream * (READ + self._reads(again * width, width) + WRITE)
        if "qkv" in in_psram:
            group = 3 * stream * heads // self.sizes["num_heads"]
            cycles += (stream if group <= CACHED else 3 * stream) * (2 * READ + WRITE)
        if "hidden" in in_psram:
            # Twice as much passes through the cache: it is written, changed and read.
            cycles += self.tokens * hidden * (READ + 2 * WRITE + self._reads(2 * again * hidden, width))
        if "normed" in in_psram:
            cycles += stream * (WRITE + self._reads((first if reads is None else reads) * width, 3 * width))
        if "branch" in in_psram:
            cycles += stream * (2 * READ + 3 * WRITE + self._reads(again * width, hidden))
        if "scratch" in in_psram:
            # Panels of weights, decoded to five times their size.
            panels = packed[0] * self._passes(first) + packed[1] * self._passes(rows)
            cycles += 5 * panels * (READ + WRITE)
        return cycles * self.sizes["depth"]

    def _embedding(self):
        """Place patches and what the stem makes where blocks have their buffers later, or in PSRAM: what costs least.

        patch_rows, and "patches", "map0", "map1" in places: what every second convolution but the last makes.
        """
        made = [round_up(side * side * outputs) for _, outputs, side in self._convolutions()][:-1]
        maps = [("map%d" % i, max(made[i::2])) for i in (0, 1) if made[i::2]]
        maps.sort(key=lambda item: -item[1])
        best = None
        for count in range(len(maps) + 1):
            for inside in (True, False):
                found = self._stem(maps[:count], maps[count:], inside)
                if found is not None and (best is None or found[0] < best[0]):
                    best = found
        _, self.patch_rows, places = best
        for name, piece, offset, size in places:
            self.places[name] = piece, offset, size
            if piece is not None:
                self.pieces[piece] = max(self.pieces[piece], offset + size)
        self.patch_bytes = max(self._patches())
        self.room = None

    def _stem(self, outside, inside, patches_inside):
        """Cycles, rows of patches and places, for these maps in PSRAM and those in internal memory; None if they do not
        fit there."""
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
        for inputs, outputs, side in self._convolutions():
            line = side * inputs
            if line > free and patches_inside:
                return None
            passes = (side + max(1, free // line) - 1) // max(1, free // line)
            rows.append((side + passes - 1) // passes)
            most = max(most, rows[-1] * line)
            waiting = max(0.0, FLASH - MULTIPLY * rows[-1] * side / self.cores)
            cycles += packed_bytes(outputs, inputs) * (DECODE / self.cores + waiting) * passes
            if not patches_inside:
                cycles += side * line * (WRITE + self._reads(rows[-1] * line, outputs))
        made = [side * side * outputs for _, outputs, side in self._convolutions()][:-1]
        for name, _ in outside:
            cycles += sum(made[int(name[-1]) :: 2]) * (2 * READ + 2 * WRITE)
        piece, used = (room[-1][2], room[-1][1]) if patches_inside else (None, 0)
        places.append(("patches", piece, used, round_up(most)))
        return cycles, rows, places

    def _patches(self):
        """Bytes of the patches that each convolution cuts out at a time."""
        for rows, (inputs, _, side) in zip(self.patch_rows, self._convolutions()):
            yield rows * side * inputs

    def halve_patches(self):
        """Let the convolution with the most patches cut half as many rows at a time; whether it could.

        Its weights are decoded anew for each pass.
        """
        sizes = list(self._patches())
        most = sizes.index(self.patch_bytes)
        if self.regions is not None or self.patch_rows[most] == 1:
            return False
        self.patch_rows[most] = (self.patch_rows[most] + 1) // 2
        self.patch_bytes = max(self._patches())
        return True

    def to_psram(self, piece):
        """Move what lies in a piece to PSRAM: for who finds that there is no room for it after all."""
        for name, (number, _, size) in self.places.items():
            if number == piece:
                self.places[name] = None, 0, size
        self.pieces[piece] = 0
        self.cycles = self._cost(self.whole, self.heads, self.rows, [n for n in EXTERNAL if self.places[n][0] is None])

    def activation_bytes(self):
        """Bytes that are taken as long as the model lives."""
        return sum(self.pieces) + self.external_bytes() + (self.patch_bytes if self.regions is None else 0)

    def heap_bytes(self):
        """What of that lies in MicroPython's heap."""
        return self.external_bytes() if self.apart else self.activation_bytes()

    def picture_bytes(self):
        """What a picture of the network's own size needs besides, in MicroPython's heap.

        Its pixels and the int8 picture, which stay, and the most of: the square; what a convolution takes and makes,
        where the plan has no place for it (the last one makes activations); the logits.
        """
        shapes = grids(self.sizes)
        side, channels = shapes[0]
        picture = side * side * channels
        most = max(picture + ternary.resize_scratch(side, channels), 4 * self.sizes["num_classes"])
        made = [0] + [side * side * channels for side, channels in shapes[1:-1]] + [0]
        for i in range(1, len(made) if self.regions is None else 1):
            most = max(most, made[i - 1] + made[i])
        return 2 * picture + most

    def external_bytes(self):
        """Bytes in PSRAM."""
        return sum(size for number, _, size in self.places.values() if number is None)

    def __str__(self):
        """A table of what goes where."""
        lines = ["buffer      bytes  where"]
        for name in BUFFERS:
            if name in self.places:
                number, offset, size = self.places[name]
                where = "PSRAM" if number is None else "SRAM, piece %d at %d" % (number, offset)
                lines.append("%-8s %8d  %s" % (name, size, where))
        external, of = self.external_bytes(), "" if self.regions is None else " of %d" % sum(self.regions)
        numbers = sum(self.pieces), of, [size for size in self.pieces if size], external
        lines.append("SRAM: %d%s bytes, in pieces of %s; PSRAM: %d bytes" % numbers)
        if self.apart:
            lines.append("%d bytes of SRAM stay free in one block (reserve)" % self.leave)
        lines.append(
            "%d tokens, %d at a time in proj and MLP (their weights are read and decoded in %d passes), %d of %d heads"
            " at a time" % (self.tokens, self.rows, self._passes(self.rows), self.heads, self.sizes["num_heads"])
        )
        many = self.cores, "" if self.cores == 1 else "s", self.cycles
        words = "for %d core%s; decoding, waiting for flash and PSRAM: about %d cycles a picture (modelled)"
        lines.append(words % many)
        return "\n".join(lines)


class Work:
    """The buffers of a plan, by their names, as int8 memoryviews ("stream" int16), and its numbers.

    What internal memory has no room for after all, it moves to PSRAM in the plan, too.
    """

    def __init__(self, plan):
        self.rows, self.whole = plan.rows, plan.whole
        self.width, self.hidden_width = plan.width, plan.hidden
        # All memory now, the largest first, while it is least fragmented.
        self.patches = ternary.arena(plan.patch_bytes) if plan.regions is None else None
        pieces = {}
        stream = plan.places["stream"][0]
        for size, number in sorted([(-size, number) for number, size in enumerate(plan.pieces) if size]):
            try:
                pieces[number] = ternary.arena(-size, "h" if number == stream else "b", plan.leave)
            except MemoryError:
                if not plan.apart:
                    raise
                plan.to_psram(number)
        for name, (number, offset, size) in plan.places.items():
            code, end = ("h", plan.tokens * plan.width) if name == "stream" else ("b", offset + size)
            view = ternary.heap(size, code) if number is None else pieces[number]
            setattr(self, name, view[offset:end])
        self.maps = [getattr(self, name) for name in ("map0", "map1") if name in plan.places]
