# SPDX-License-Identifier: MIT
"""Where a network's activations lie, and in how many passes its layers go over their tokens.

Plan(file.architecture, sram=192 * 1024, piece=100 * 1024) finds the cheapest way within that much internal memory;
print it to see what goes where. VisionTransformer.load(path, sram=..., piece=...) makes and follows it.
"""

from array import array

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


def round_up(count, unit=16):
    """The next multiple."""
    return (count + unit - 1) // unit * unit


def packed_bytes(outputs, inputs):
    """Bytes of packed weights of a linear layer (SPEC 2.6)."""
    return round_up(outputs) * ((inputs + 4) // 5)


class Plan:
    """A layout. Sizes in bytes; sram, piece: None for no limit.

    rows: tokens that go through proj and MLP at a time; heads: that are projected to q, k and v at a time; whole:
    whether the first LayerNorm of a block takes all tokens at once (otherwise `rows`); patch_rows: for each
    convolution, rows of patches that are cut out at a time; places: name -> (piece or None for PSRAM, offset, bytes);
    pieces: bytes of each piece of SRAM; cycles: modelled, that decoding weights and waiting for flash and PSRAM take.
    """

    def __init__(self, sizes, sram=None, piece=None):
        # Keys that JSON made would stay on the heap with the plan.
        self.sizes = {key: sizes[key] for key in SIZES + ("stem",)}
        self.sram, self.piece = sram, piece
        self.tokens = 1 + grids(sizes)[-1][0] ** 2
        self.width, self.hidden = sizes["embed_dim"], sizes["mlp_hidden"]
        self.scratch = self._scratch()
        # What the last LayerNorm and the head allocate for each picture.
        self.logits = round_up(4 * sizes["num_classes"]) + round_up(self.width)
        self.cycles = None  # type: int | None
        self._check_pieces()
        needed = None
        for external in range(8):
            in_psram = [name for bit, name in enumerate(("qkv", "mixed", "stream")) if external >> bit & 1]
            for whole, heads in self._ways():
                lacking = self._try(whole, heads, in_psram)
                if lacking is not None and (needed is None or lacking < needed):
                    needed = lacking
            if external == 0 and self.cycles is not None and self.rows == self.tokens:
                break
        if self.cycles is None:
            pieces = "" if piece is None else " in pieces of at most %d" % piece
            raise MemoryError("activations: need at least %s bytes, %s are given%s" % (needed, sram, pieces))
        self.patch_rows = self._patch_rows()  # type: list[int]
        self.patch_bytes = max(self._patches())  # type: int

    def _scratch(self):
        """Bytes for the scratch of any layer."""
        sizes, head_width = self.sizes, self.width // self.sizes["num_heads"]
        most = max(ternary.linear_scratch(self.width), ternary.linear_scratch(self.hidden))
        most = max(most, ternary.layernorm_scratch(self.width), ternary.attention_scratch(self.tokens, head_width))
        channels = sizes["in_chans"]
        for _, kernel, _, _, made in convolutions(sizes):
            most = max(most, ternary.linear_scratch(kernel * kernel * channels))
            channels = made
        return most

    def _check_pieces(self):
        """Refuse pieces that one of the buffers which are always in SRAM exceeds."""
        for name, size in (("scratch", self.scratch), ("hidden", self.hidden), ("branch", self.width)):
            if self.piece is not None and round_up(size) > self.piece:
                words = "activations: %s needs at least %d bytes in one piece, pieces have at most %d"
                raise MemoryError(words % (name, round_up(size), self.piece))

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
        lasting = [("mixed", stream), ("scratch", self.scratch)]
        attention = [("qkv", self.tokens * group), ("normed", (self.tokens if whole else rows) * self.width)]
        return lasting, attention, [("hidden", rows * self.hidden), ("branch", rows * self.width)]

    def _try(self, whole, heads, in_psram):
        """Keep the cheapest layout of this kind, if it is the best so far; returns None, or the bytes it would need."""
        smallest = None
        for passes in range(1, self.tokens + 1):
            rows = (self.tokens + passes - 1) // passes
            if passes > 1 and rows == (self.tokens + passes - 2) // (passes - 1):
                continue
            cycles = self._cost(whole, heads, rows, in_psram)
            if self.cycles is not None and cycles >= self.cycles:
                return None
            places, pieces = self._pack(self._needs(whole, heads, rows), in_psram)
            if places is not None:
                self.rows, self.heads, self.whole = rows, heads, whole
                self.places, self.pieces, self.cycles = places, pieces, cycles
                return None
            smallest = pieces
        return smallest

    def _piece(self, size, taken, pieces, stream):
        """The piece for a buffer: one that need not grow, or else the first that may, or a new one; not `stream`."""
        may = len(taken)
        for i, before in enumerate(taken):
            if i != stream and before + size <= pieces[i]:
                return i
            if i != stream and may == len(taken) and (self.piece is None or before + size <= self.piece):
                may = i
        return may

    def _pack(self, needs, in_psram):
        """Places and pieces, or None and the bytes that would do. Buffers of attention and MLP share memory."""
        limit, external, fits = self.piece, 0, True
        stream = round_up(2 * self.tokens * self.width)
        if "stream" in in_psram:
            pieces, external = [], stream
            places = {"stream": (None, 0, stream)}  # type: dict[str, tuple[int | None, int, int]]
        else:
            # A piece of its own, as it has elements of its own.
            pieces, fits = [stream], limit is None or stream <= limit
            places = {"stream": (0, 0, stream)}
        used = list(pieces)  # of each piece, by what always lives
        for phase in needs:
            taken = list(used)
            for name, size in sorted(phase, key=lambda item: -item[1]):
                size = round_up(size)
                if name in in_psram:
                    places[name] = None, external, size
                    external += size
                    continue
                fits = fits and (limit is None or size <= limit)
                number = self._piece(size, taken, pieces, places["stream"][0])
                if number == len(taken):
                    taken.append(0)
                    pieces.append(0)
                places[name] = number, taken[number], size
                taken[number] += size
                pieces[number] = max(pieces[number], taken[number])
            if phase is needs[0]:
                used = taken
            else:
                used += [0] * (len(taken) - len(used))
        needed = sum(pieces) + self.logits
        if self.sram is not None and (needed > self.sram or not fits):
            return None, needed
        return places, pieces

    def _weights(self, packed, rows):
        """Cycles that decoding packed weights takes, and waiting for them, for all tokens, `rows` at a time."""
        cores = ternary.cores()
        waiting = max(0.0, FLASH - MULTIPLY * rows / cores)
        return packed * (DECODE / cores + waiting) * self._passes(rows)

    def _passes(self, rows):
        """Passes over all tokens, `rows` at a time."""
        return (self.tokens + rows - 1) // rows

    def _cost(self, whole, heads, rows, in_psram):
        """Cycles that all blocks decode and wait for flash and PSRAM."""
        width, stream = self.width, self.tokens * self.width
        cycles = self._weights(packed_bytes(3 * width, width), self.tokens if whole else rows)
        cycles += self._weights(packed_bytes(width, width) + 2 * packed_bytes(width, self.hidden), rows)
        if "stream" in in_psram:
            cycles += 2 * stream * (3 * READ + 2 * WRITE)
        if "mixed" in in_psram:
            cycles += stream * (2 * READ + WRITE)
        if "qkv" in in_psram:
            group = 3 * stream * heads // self.sizes["num_heads"]
            cycles += (stream if group <= CACHED else 3 * stream) * (2 * READ + WRITE)
        return cycles * self.sizes["depth"]

    def _patch_rows(self):
        """How many rows of patches fit into `hidden`, which blocks need later; without a limit, all of them."""
        shapes, found = grids(self.sizes), []
        for i, (_, kernel, _, _, _) in enumerate(convolutions(self.sizes)):
            side, channels = shapes[i + 1][0], shapes[i][1]
            row = side * kernel * kernel * channels
            found.append(side if self.sram is None else min(side, max(1, self.places["hidden"][2] // row)))
        return found

    def _patches(self):
        """Bytes of the patches that each convolution cuts out at a time."""
        shapes = grids(self.sizes)
        for i, (_, kernel, _, _, _) in enumerate(convolutions(self.sizes)):
            yield self.patch_rows[i] * shapes[i + 1][0] * kernel * kernel * shapes[i][1]

    def halve_patches(self):
        """Let the convolution with the most patches cut half as many rows at a time; whether it could.

        Its weights are decoded anew for each pass.
        """
        sizes = list(self._patches())
        most = sizes.index(self.patch_bytes)
        if self.patch_rows[most] == 1:
            return False
        self.patch_rows[most] = (self.patch_rows[most] + 1) // 2
        self.patch_bytes = max(self._patches())
        return True

    def patches_inside(self):
        """Whether patches go into `hidden`, which blocks need later."""
        return self.sram is not None and self.patch_bytes <= self.places["hidden"][2]

    def activation_bytes(self):
        """Bytes that are taken as long as the model lives."""
        places = sum(self.pieces) + self.external_bytes()
        return places if self.patches_inside() else places + self.patch_bytes

    def picture_pieces(self):
        """Bytes of what a picture of the network's own size needs besides, at one time after the other.

        Its pixels and the int8 picture, which stay, and: the square; what a convolution takes and makes (the last one
        makes activations); the last norm's row and the logits.
        """
        shapes = grids(self.sizes)
        side, channels = shapes[0]
        picture = side * side * channels
        made = [0] + [side * side * channels for side, channels in shapes[1:-1]] + [0]
        found = [(picture, ternary.resize_scratch(side, channels)), (self.width, 4 * self.sizes["num_classes"])]
        found += [(made[i - 1], made[i]) for i in range(1, len(made))]
        return [(picture, picture) + pieces for pieces in found]

    def picture_bytes(self):
        """The most that a picture of the network's own size needs besides."""
        return max(sum(pieces) for pieces in self.picture_pieces())

    def external_bytes(self):
        """Bytes in PSRAM."""
        return sum(size for number, _, size in self.places.values() if number is None)

    def __str__(self):
        """A table of what goes where."""
        lines = ["buffer      bytes  where"]
        for name in ("stream", "scratch", "mixed", "normed", "qkv", "branch", "hidden"):
            number, offset, size = self.places[name]
            where = "PSRAM" if number is None else "SRAM, piece %d at %d" % (number, offset)
            lines.append("%-8s %8d  %s" % (name, size, where))
        lines.append("logits   %8d  SRAM, for each picture" % self.logits)
        external = self.external_bytes()
        of = "" if self.sram is None else " of %d" % self.sram
        inside = sum(self.pieces) + self.logits, of, self.pieces
        lines.append("SRAM: %d%s bytes, in pieces of %s and the logits; PSRAM: %d bytes" % (inside + (external,)))
        lines.append(
            "%d tokens, %d at a time in proj and MLP (their weights are read and decoded in %d passes), %d of %d heads"
            " at a time" % (self.tokens, self.rows, self._passes(self.rows), self.heads, self.sizes["num_heads"])
        )
        lines.append("decoding, waiting for flash and PSRAM: about %s cycles a picture (modelled)" % self.cycles)
        return "\n".join(lines)


class Work:
    """The buffers of a plan, by their names, as int8 memoryviews ("stream" int16), and its numbers."""

    def __init__(self, plan):
        self.rows, self.whole = plan.rows, plan.whole
        self.width, self.hidden_width = plan.width, plan.hidden
        places = plan.places
        inside = places["stream"][0] is not None
        # Typecode "h"; PSRAM is the heap, on boards that have one.
        size = 2 * plan.tokens * plan.width
        self.stream = ternary.arena(size, "h") if inside else memoryview(array("h", bytes(size)))
        pieces = [None if inside and i == 0 else ternary.arena(size) for i, size in enumerate(plan.pieces)]
        for name, (number, offset, size) in places.items():
            if name != "stream":
                piece = memoryview(bytearray(size)) if number is None else pieces[number][offset : offset + size]
                setattr(self, name, piece)
