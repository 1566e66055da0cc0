# SPDX-License-Identifier: MIT
"""Where a network's activations are in memory, and in how many passes its layers process their tokens.

Plan(file.architecture) finds the cheapest way within the internal memory that is free, less what it leaves to others;
Plan(file.architecture, sram=192 * 1024, piece=100 * 1024) within less. Print it to see what goes where.
VisionTransformer.load(path, ...) makes and follows it.
"""

import ternary

from ftervit.architecture import SIZES, convolutions, grids, packed_bytes, padded, patch_rows
from ftervit.costs import CACHED, CALL, DECODE, FLASH, MULTIPLY, PANELS, READ, WRITE

# Bytes that stay free in one block of internal memory unless `reserve` says otherwise: Wi-Fi and cameras need it.
RESERVE = 64 * 1024
BUFFERS = ("stream", "scratch", "mixed", "normed", "qkv", "branch", "hidden", "patches", "map0", "map1")


class Plan:
    """A layout for the cores that are in use. Sizes in bytes.

    sram, piece: limits of its internal memory in all and of each piece, None for none; reserve: what stays free in one
    block of internal memory, None for RESERVE; free: the largest free block of each region, None for what
    ternary.internal() says.

    cores: that it is for; regions: bytes that each region of internal memory offers, None where there is no limit;
    leave: what each piece leaves in one block; rows: tokens that go through proj and MLP at a time; heads: that are
    projected to q, k and v at a time; whole: whether the first LayerNorm of a block takes all tokens at once (otherwise
    `rows`); scratch: for the operations of any layer, from `scratch_least`, with which they use all cores, to
    `scratch_most`, with which they are fastest; patch_rows: for each convolution, rows of patches that are cut out at a
    time; places: name -> (piece or None for PSRAM, offset, bytes); pieces: bytes of each piece of SRAM; cycles:
    modelled, that decoding weights and waiting for flash and PSRAM take in all blocks.
    """

    def __init__(
        self,
        sizes: dict,
        sram: int | None = None,
        piece: int | None = None,
        reserve: int | None = None,
        free: list[int] | tuple[int, ...] | None = None,
    ) -> None:
        # Keys that JSON made would stay on the heap with the plan.
        self.sizes = {key: sizes[key] for key in SIZES + ("stem",)}
        free = ternary.internal() if free is None else free
        self.apart = free is not None  # from MicroPython's heap
        self.tokens = 1 + grids(sizes)[-1][0] ** 2
        self.width, self.hidden = sizes["embed_dim"], sizes["mlp_hidden"]
        self.cores = 0
        while self.cores != ternary.cores():  # another thread may set them between two measures
            self.cores = ternary.cores()
            self.scratch = self.scratch_most = self._scratch(ternary.linear_scratch, ternary.attention_scratch)
            self.scratch_least = self._scratch(ternary.linear_scratch_least, ternary.attention_scratch_least)
        if free is None and sram is None and piece is None:
            self._all_at_once()
        else:
            from ftervit.layout import Search  # which boards with one heap do not need

            Search(self, sram, piece, RESERVE if reserve is None else reserve, free)

    def _all_at_once(self):
        """Without limits: everything for all tokens, in one piece beside the stream's."""
        self.regions, self.leave, self.places = None, 0, {}
        self.rows, self.heads, self.whole = self.tokens, self.sizes["num_heads"], False
        lasting, *phases = self.needs(False, self.heads, self.rows)
        most = start = 0
        for phase in [lasting] + phases:
            offset = start
            for name, size in phase:
                if name == "stream":
                    self.places[name], self.pieces = (0, 0, size), [size]
                else:
                    self.places[name] = 1, offset, size
                    offset += size
            most = max(most, offset)
            if phase is lasting:
                start = offset
        self.pieces.append(most)
        self.cycles = self.cost(False, self.heads, self.rows, ())
        self.patch_rows = self.most_patch_rows()
        self.patch_bytes = max(self.patches())

    def _scratch(self, linear, attention):
        """Bytes for the scratch of any layer, by these measures."""
        most = max(linear(self.hidden), ternary.layernorm_scratch(self.width))
        most = max(most, attention(self.tokens, self.width // self.sizes["num_heads"]))
        # The head and convolutions need whole panels.
        most = max(most, ternary.linear_scratch(self.width))
        for inputs, _, _ in self.convolutions():
            most = max(most, ternary.linear_scratch(inputs))
        return padded(most)

    def convolutions(self):
        """(inputs, outputs, side) of each convolution: of its linear layer, and of the square that it makes."""
        shapes = grids(self.sizes)
        for i, (_, kernel, _, _, outputs) in enumerate(convolutions(self.sizes)):
            yield kernel * kernel * shapes[i][1], outputs, shapes[i + 1][0]

    def most_patch_rows(self) -> list[int]:
        """Rows of patches that each convolution cuts out at a time if there is room."""
        found = []
        for (inputs, outputs, side), (_, channels) in zip(self.convolutions(), grids(self.sizes)):
            found.append(patch_rows(side, inputs, channels, outputs))
        return found

    def needs(self, whole: bool, heads: int, rows: int) -> list[list[tuple[str, int]]]:
        """(name, bytes) of all buffers: those that always live, those of attention, those of the MLP."""
        stream, group = self.tokens * self.width, self.group(heads)
        lasting = ("stream", 2 * stream), ("mixed", stream), ("scratch", self.scratch)
        attention = ("qkv", self.tokens * group), ("normed", (self.tokens if whole else rows) * self.width)
        mlp = ("hidden", rows * self.hidden), ("branch", rows * self.width)
        return [[(name, padded(size)) for name, size in phase] for phase in (lasting, attention, mlp)]

    def group(self, heads: int) -> int:
        """Bytes of a token's q, k and v, if all heads are projected at a time; otherwise k and v of as many."""
        return 3 * self.width if heads == self.sizes["num_heads"] else 2 * self.width * heads // self.sizes["num_heads"]

    def reads_of(self, size: int, outputs: int) -> float:
        """Cycles for each byte that a linear layer reads from PSRAM, of `size` bytes at a time."""
        return READ if size <= CACHED else READ * ((outputs + 15) // 16)

    def weights(self, packed: int, rows: int) -> float:
        """Cycles that decoding packed weights takes, and waiting for them, for all tokens, `rows` at a time."""
        waiting = max(0.0, FLASH - MULTIPLY * rows / self.cores)
        return packed * (DECODE / self.cores + waiting) * self.passes(rows)

    def passes(self, rows: int) -> int:
        """Passes over all tokens, `rows` at a time."""
        return (self.tokens + rows - 1) // rows

    def cost(
        self, whole: bool, heads: int, rows: int, in_psram: list[str] | tuple[str, ...], reads: int | None = None
    ) -> float:
        """Cycles that all blocks decode and wait for flash and PSRAM; reads: as if layers read so many rows at a time,
        0 for a lower bound."""
        width, hidden, stream = self.width, self.hidden, self.tokens * self.width
        first = self.tokens if whole else rows
        again = rows if reads is None else reads
        packed = packed_bytes(3 * width, width), packed_bytes(width, width) + 2 * packed_bytes(width, hidden)
        cycles = self.weights(packed[0], first) + self.weights(packed[1], rows)
        if "stream" in in_psram:
            cycles += 2 * stream * (3 * READ + 2 * WRITE)
        if "mixed" in in_psram:
            cycles += stream * (READ + self.reads_of(again * width, width) + WRITE)
        if "qkv" in in_psram:
            group = self.tokens * self.group(heads)
            cycles += (stream if group <= CACHED else 3 * stream) * (2 * READ + WRITE)
        if "hidden" in in_psram:
            # Twice as much passes through the cache: it is written, changed and read.
            cycles += self.tokens * hidden * (READ + 2 * WRITE + self.reads_of(2 * again * hidden, width))
        if "normed" in in_psram:
            cycles += stream * (WRITE + self.reads_of((first if reads is None else reads) * width, 3 * width))
        if "branch" in in_psram:
            cycles += stream * (2 * READ + 3 * WRITE + self.reads_of(again * width, hidden))
        if self.scratch < self.scratch_most:
            # Attention takes fewer rows at a time: more calls of kernels for each of its panels.
            heads = self.sizes["num_heads"]
            panels = (self.tokens + 15) // 16 + (width // heads + 15) // 16
            cycles += CALL * heads * panels * self.passes(8)
        if "scratch" in in_psram:
            cycles += PANELS * (packed[0] * self.passes(first) + packed[1] * self.passes(rows))
        return cycles * self.sizes["depth"]

    def patches(self):
        """Bytes of the patches that each convolution cuts out at a time."""
        for rows, (inputs, _, side) in zip(self.patch_rows, self.convolutions()):
            yield rows * side * padded(inputs)

    def halve_patches(self) -> bool:
        """Let the convolution with the most patches cut half as many rows at a time; whether it could.

        Its weights are decoded anew for each pass.
        """
        sizes = list(self.patches())
        most = sizes.index(self.patch_bytes)
        if self.regions is not None or self.patch_rows[most] == 1:
            return False
        self.patch_rows[most] = (self.patch_rows[most] + 1) // 2
        self.patch_bytes = max(self.patches())
        return True

    def activation_bytes(self) -> int:
        """Bytes that are allocated as long as the model lives."""
        return sum(self.pieces) + self.external_bytes() + (self.patch_bytes if self.regions is None else 0)

    def heap_bytes(self) -> int:
        """The part of them in MicroPython's heap."""
        return self.external_bytes() if self.apart else self.activation_bytes()

    def picture_pieces(self) -> list[tuple[int, ...]]:
        """Bytes of what a picture of the network's own size needs besides in MicroPython's heap, at one time after the
        other.

        Its pixels and the int8 picture, which stay, and: the square; what a convolution takes and makes, where the plan
        has no place for it (the last one makes activations); the logits.
        """
        side, channels = grids(self.sizes)[0]
        picture = side * side * channels
        found = [(picture, ternary.resize_scratch(side, channels)), (4 * self.sizes["num_classes"],)]
        if self.regions is None:
            made = [0] + [side * side * outputs for _, outputs, side in self.convolutions()][:-1] + [0]
            found += [(made[i - 1], made[i]) for i in range(1, len(made))]
        return [(picture, picture) + pieces for pieces in found]

    def picture_bytes(self) -> int:
        """The most that a picture of the network's own size needs besides in MicroPython's heap."""
        return max(sum(pieces) for pieces in self.picture_pieces())

    def external_bytes(self) -> int:
        """Bytes in PSRAM."""
        return sum(size for number, _, size in self.places.values() if number is None)

    def __str__(self) -> str:
        """A table of the buffers and where they are."""
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
            " at a time" % (self.tokens, self.rows, self.passes(self.rows), self.heads, self.sizes["num_heads"])
        )
        from ftervit.estimate import times  # what only a printed plan needs

        seconds, waiting = times(self)
        many = self.cores, "" if self.cores == 1 else "s", 1000 * seconds, 1000 * waiting
        words = "for %d core%s; on an ESP32-S3 a picture takes about %.1f ms, %.1f of them waiting for flash and PSRAM"
        lines.append(words % many + " (an estimate, modelled)")
        head_width = self.width // self.sizes["num_heads"]
        if head_width % 16:
            lines.append("heads of %d values: attention is many times as fast with a multiple of 16" % head_width)
        return "\n".join(lines)


class Work:
    """The buffers of a plan, by their names, as int8 memoryviews ("stream" int16), and its numbers.

    What internal memory has no room for after all, it moves to PSRAM in the plan, too.
    """

    def __init__(self, plan: Plan) -> None:
        self.cores, self.rows, self.whole = plan.cores, plan.rows, plan.whole
        self.width, self.hidden_width = plan.width, plan.hidden
        # All memory now, the largest first, while it is least fragmented.
        self.patches = ternary.arena(plan.patch_bytes) if plan.regions is None else b""
        pieces = {}
        stream = plan.places["stream"][0]
        for size, number in sorted([(-size, number) for number, size in enumerate(plan.pieces) if size]):
            try:
                pieces[number] = ternary.arena(-size, "h" if number == stream else "b", plan.leave)
            except MemoryError:
                if not plan.apart:
                    raise
                from ftervit.layout import to_psram

                to_psram(plan, number)
        for name, (number, offset, size) in plan.places.items():
            end = plan.tokens * plan.width if name == "stream" else offset + size
            view = pieces.get(number)
            if view is None:
                view = ternary.heap(size, "h" if name == "stream" else "b")
            setattr(self, name, view[offset:end])
        self.maps = tuple(getattr(self, name) for name in ("map0", "map1") if name in plan.places)
