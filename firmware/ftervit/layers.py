# SPDX-License-Identifier: MIT
"""The layers of a fully ternary vision transformer, over the C module `ternary`.

Buffers are bytes-like: int8 activations [rows, features], the int16 residual stream as typecode "h". Every layer can
be called on its own: without `out` it allocates its result, or works in place where its docstring says so. Containers
call each of their parts as part(x, out); a part of your own may fill `out` or ignore it, and returns what it has made,
of the same size. In a model `out` is always a buffer.
"""

import sys

import ternary

from ftervit.architecture import padded, patch_rows

# Whether there is a cache to fill: a chip has one, and so may a chip that CPython simulates from any moment on.
CACHED = sys.implementation.name == "cpython" or ternary.internal() is not None


class Scratch:
    """Working memory of layers that compute one after the other: one for all layers of a model, one for each layer
    that you create yourself.

    work: the buffers of the model's plan (plan.Work), from which all of it then comes; None without a plan.
    """

    # Class attributes: an attribute that an object lacks takes no memory.
    work = None
    _buffer = _patches = b""  # type: memoryview | bytes

    def get(self, size, least=None, *of):
        """At least `size` bytes, 16-byte aligned, with any content; fewer if the plan has less, but least(*of), with
        which the operation is slower, or if more cores are in use than it is for: operations then use fewer cores."""
        work = self.work
        if work is not None:
            room = len(work.scratch)
            enough = room >= size or ternary.cores() > work.cores or (least is not None and room >= least(*of))
            return work.scratch if enough else ternary.arena(size)
        if len(self._buffer) < size:
            self._buffer = b""  # freed first, and still a buffer if the next line fails
            self._buffer = ternary.arena(size)
        return self._buffer

    def patches(self, size):
        """The same for a convolution's patches, which are there at the same time."""
        work = self.work
        if work is not None:
            return work.patches if len(work.patches) >= size else ternary.arena(size)
        if len(self._patches) < size:
            self._patches = b""
            self._patches = ternary.arena(size)
        return self._patches

    def use(self, work, buffer=b""):
        """Use a plan's memory from now on, and allocate what it lacks for each call; without a plan, this buffer."""
        self.work, self._buffer = work, buffer


def rows_of(x, features):
    """Number of rows in a buffer of int8 [rows, features]; ValueError if they are not whole."""
    size = len(x)
    if not size or size % features:
        raise ValueError("x has %d bytes, needs a multiple of %d" % (size, features))
    return size // features


def tokens_of(scores):
    """Side of int8 scores [tokens, tokens]; ValueError if they are not a square."""
    size = len(scores)
    tokens = int(size**0.5 + 0.5)
    if not size or tokens * tokens != size:
        raise ValueError("scores have %d bytes, need a square number" % size)
    return tokens


# table[x + 128] = x
SAME = bytes(range(128, 256)) + bytes(range(128))


def put(made, out):
    """Copy a part's result into `out`, unless it is `out` itself."""
    if made is not out:
        ternary.lookup(made, SAME, out)  # a copy, of any typecode


def probe(file, name, layer, *arguments):
    """Let a layer check its tensors by a first call; an error refuses the file."""
    try:
        layer(*arguments)
    except ValueError as error:
        file.refuse("layer '%s'" % name, error)
    return layer


def unchanged(part, cls):
    """Whether a call of a part is a call of `cls`: neither a function, nor a subclass with a __call__ of its own."""
    return isinstance(part, cls) and type(part).__call__ is cls.__call__


def add(layer, x, out, residual, shift):
    """residual += layer(x, out) * 2^shift (SPEC 5.1), where `layer` is a TernaryBitLinear or a part of your own."""
    if unchanged(layer, TernaryBitLinear):
        layer.add(x, out, residual, shift)
    else:
        ternary.residual_add(residual, layer(x, out), shift)


def prefetch(layer):
    """Prefetch a layer's first tensors into the chip's cache while something else is computed."""
    ahead = getattr(layer, "ahead", None) if CACHED else None
    if ahead is not None:
        ternary.prefetch(ahead)


class TernaryBitLinear:
    """int8 [rows, in_features] -> int8 [rows, out_features] (SPEC 4.1 to 4.5).

    weight: packed trits; bias int16, multiplier int8 [out_features]; shift uint8 per 16 outputs;
    frac: the output means y * 2^-frac (for people: an int, a list of three for qkv, None if unknown); scratch: its
    Scratch, None for one of its own, in all layers.
    """

    def __init__(self, weight, bias, multiplier, shift, in_features, frac=None, scratch=None):
        self.weight, self.bias, self.multiplier, self.shift = weight, bias, multiplier, shift
        self.in_features, self.frac, self.ahead = in_features, frac, weight
        self.scratch = scratch or Scratch()

    @property
    def out_features(self):
        """Outputs of a row."""
        return len(self.multiplier)

    @classmethod
    def load(cls, file, name, in_features, out_features, frac=None, scratch=None):
        """Take the layer `name` from a ModelFile."""
        weight = file.tensor(name + ".weight", "U8", [out_features, in_features], trits=True)
        ahead = file.ahead()
        layer = cls(
            weight,
            file.tensor(name + ".bias", "I16", [out_features]),
            file.tensor(name + ".multiplier", "I8", [out_features]),
            file.tensor(name + ".shift", "U8", [(out_features + 15) // 16]),
            in_features,
            frac,
            scratch,
        )
        layer.ahead = ahead
        return probe(file, name, layer, bytes(in_features), ternary.heap(out_features))

    @classmethod
    def like(cls, layer):
        """A layer of this class with the tensors and the scratch of another TernaryBitLinear: for subclasses."""
        tensors = layer.weight, layer.bias, layer.multiplier, layer.shift
        return cls(*tensors, layer.in_features, layer.frac, layer.scratch)

    def __call__(self, x, out=None):
        """x: int8 [rows, in_features]; out: int8 [rows, out_features], returned."""
        rows = rows_of(x, self.in_features)
        if out is None:
            out = ternary.arena(rows * self.out_features)
        work = self._work()
        self._prefetch()
        ternary.linear(x, self.weight, self.bias, self.multiplier, self.shift, out, work)
        return out

    def add(self, x, out, residual, shift):
        """Add what a call makes in `out` to the residual stream: int16 [rows, out_features], typecode "h"; shift as in
        SPEC 5.1."""
        work = self._work()
        self._prefetch()
        tensors = self.weight, self.bias, self.multiplier, self.shift
        ternary.linear_add(x, *tensors, out, residual, shift, work)

    def _prefetch(self):
        if len(self.ahead) > len(self.weight):
            prefetch(self)  # and what follows it in the file

    def weight_of(self, first, count):
        """Packed trits of outputs first..first + count - 1, multiples of 16."""
        step = (self.in_features + 4) // 5  # bytes per output
        return memoryview(self.weight)[first * step : (first + count) * step]

    def columns(self, first, count, x, out, column):
        """Outputs first..first + count - 1, multiples of 16, to columns column.. of out, int8 [rows, any width]."""
        rows, last = rows_of(x, self.in_features), first + count
        unit = len(self.bias) // self.out_features  # 2 where int16 come as bytes
        ternary.linear_columns(
            x,
            rows,
            self.weight_of(first, count),
            memoryview(self.bias)[unit * first : unit * last],
            memoryview(self.multiplier)[first:last],
            memoryview(self.shift)[first // 16 : last // 16],
            out,
            column,
            self._work(),
        )

    def _work(self):
        inputs = self.in_features
        return self.scratch.get(ternary.linear_scratch(inputs), ternary.linear_scratch_least, inputs)

    def trits(self, tile):
        """Weights of outputs 16 * tile to 16 * tile + 15, int8 [in_features, 16], each -1, 0 or +1."""
        size = (self.in_features + 4) // 5 * 16
        out = ternary.arena(self.in_features * 16)
        ternary.decode(self.weight[tile * size : (tile + 1) * size], out)
        return out


class TernaryBitConv2d:
    """Convolution: int8 picture [side, side, channels] -> int8 [new_side, new_side, out_features] (SPEC 4.6).

    linear: what each patch goes through, a TernaryBitLinear or a part of your own; side: of the square pictures that it
    takes; patch_rows: a limit of the rows of patches that are cut out at a time.
    """

    patch_rows = 1 << 20  # of the class: most plans need no other number, which would take memory

    def __init__(self, linear, side, channels, kernel, stride, padding, scratch=None):
        self.linear, self.side, self.channels = linear, side, channels
        self.scratch = scratch or Scratch()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.out_features = linear.out_features

    @property
    def new_side(self):
        """Side of the pictures that it makes."""
        return (self.side + 2 * self.padding - self.kernel) // self.stride + 1

    @classmethod
    def load(cls, file, name, side, channels, kernel, stride, padding, out_features, scratch=None):
        """Take the convolution `name` from a ModelFile."""
        frac = file.frac(name)
        linear = TernaryBitLinear.load(file, name, kernel * kernel * channels, out_features, frac, scratch)
        return cls(linear, side, channels, kernel, stride, padding, scratch)

    def rows(self):
        """Rows of patches that are cut out at a time."""
        inputs = self.kernel * self.kernel * self.channels
        return min(self.patch_rows, patch_rows(self.new_side, inputs, self.channels, self.out_features))

    def patch_bytes(self):
        """Bytes for the patches that are cut out at a time, each on a multiple of 16."""
        return self.rows() * self.new_side * padded(self.kernel * self.kernel * self.channels)

    def out_bytes(self):
        """Bytes of the picture that it makes."""
        return self.new_side * self.new_side * self.out_features

    def __call__(self, picture, out=None):
        """picture: int8 [side, side, channels]; out: int8 [new_side, new_side, out_features], returned."""
        needed = self.side * self.side * self.channels
        if len(picture) != needed:
            raise ValueError("patches: picture has %d bytes, needs %d" % (len(picture), needed))
        prefetch(self.linear)
        patches = self.scratch.patches(self.patch_bytes())
        window = self.side, self.channels, self.kernel, self.stride, self.padding
        if out is None:
            out = ternary.arena(self.out_bytes())
        layer = self.linear
        if unchanged(layer, TernaryBitLinear):
            work = self.scratch.get(ternary.linear_scratch(layer.in_features))
            ternary.convolution(
                picture, *window, layer.weight, layer.bias, layer.multiplier, layer.shift, out, patches, work
            )
            return out
        line, made = self.new_side * self.kernel * self.kernel * self.channels, self.new_side * self.out_features
        at_once = self.rows()
        for top in range(0, self.new_side, at_once):
            count = min(at_once, self.new_side - top)
            rows = patches[: count * line]
            ternary.patches(picture, *window, top, rows)
            place = out[top * made : (top + count) * made]
            put(layer(rows, place), place)
        return out


class ConvAct:
    """One stage of the stem: a convolution and its activation (SPEC 9.1)."""

    def __init__(self, conv, act):
        self.conv, self.act = conv, act

    def __call__(self, picture, out=None):
        """picture: int8 [side, side, channels]; out: int8 [new_side, new_side, out_features], returned."""
        if out is None and isinstance(self.conv, TernaryBitConv2d):  # of a function nobody knows the size
            out = ternary.arena(self.conv.out_bytes())
        made = self.conv(picture, out)
        return self.act(made, made)


class PatchEmbed:
    """int8 picture [img_size, img_size, in_chans] -> int8 [patches, embed_dim]: the stem's stages, then `proj`.

    backbone: list of ConvAct, empty in a plain vision transformer; proj: a TernaryBitConv2d.
    """

    def __init__(self, backbone, proj, scratch=None):
        self.backbone, self.proj, self.scratch = backbone, proj, scratch or Scratch()
        self.convolutions = [stage.conv for stage in backbone] + [proj]  # as they were, whatever replaces them

    @classmethod
    def load(cls, file, sizes, scratch=None):
        """Take `patch_embed` from a ModelFile; sizes: its architecture."""
        from ftervit.architecture import STAGE, convolutions, grids

        shapes, layers = grids(sizes), []
        for i, (_, kernel, stride, padding, channels_out) in enumerate(convolutions(sizes)):
            side, channels = shapes[i]
            last = i == len(sizes["stem"])
            name = "patch_embed.proj" if last else STAGE % i + ".conv"
            conv = TernaryBitConv2d.load(file, name, side, channels, kernel, stride, padding, channels_out, scratch)
            layers.append(conv if last else ConvAct(conv, Activation.load(file, STAGE % i + ".act")))
        return cls(layers[:-1], layers[-1], scratch)

    def __call__(self, picture, out=None):
        """picture: int8 [img_size, img_size, in_chans]; out: int8 [patches, embed_dim], returned.

        Stages write where the plan has a place for it, by turns: the first, third, ... to map0, the others to map1.
        """
        work = self.scratch.work
        maps = () if work is None else work.maps
        for i, stage in enumerate(self.backbone):
            # A part of your own makes as much as the one that it replaces.
            conv = getattr(stage, "conv", None)
            if not isinstance(conv, TernaryBitConv2d):
                conv = self.convolutions[min(i, len(self.convolutions) - 1)]
            size = conv.out_bytes()
            planned = i % 2 < len(maps) and len(maps[i % 2]) >= size
            picture = stage(picture, maps[i % 2][:size] if planned else ternary.arena(size))
        return self.proj(picture, ternary.arena(self.convolutions[-1].out_bytes()) if out is None else out)


class TernaryHead:
    """int8 [rows, in_features] -> int32 logits [rows, out_features] (SPEC 4.7); a logit means y * 2^-frac."""

    def __init__(self, weight, bias, multiplier, in_features, out_features, frac, scratch=None):
        self.weight, self.bias, self.multiplier = weight, bias, multiplier
        self.in_features, self.out_features = in_features, out_features
        self.frac, self.scratch = frac, scratch or Scratch()

    @classmethod
    def load(cls, file, name, in_features, out_features, scratch=None):
        """Take the layer `name` from a ModelFile."""
        layer = cls(
            file.tensor(name + ".weight", "U8", [out_features, in_features], trits=True),
            file.tensor(name + ".bias", "I32", [out_features]),
            file.tensor(name + ".multiplier", "I16", [out_features]),
            in_features,
            out_features,
            file.frac(name),
            scratch,
        )
        return probe(file, name, layer, bytes(in_features))

    def __call__(self, x, out=None):
        """x: int8 [rows, in_features]; out: int32 [rows, out_features], returned."""
        rows = rows_of(x, self.in_features)
        if out is None:
            out = ternary.heap(rows * self.out_features * 4, "i")  # read by Python, not by layers
        work = self.scratch.get(ternary.linear_scratch(self.in_features))
        ternary.linear_logits(x, self.weight, self.bias, self.multiplier, out, work)
        return out


class Int8Head:
    """int8 [in_features] -> int32 logits [out_features] (SPEC 4.8); a logit means y * 2^-frac."""

    def __init__(self, weight, bias, multiplier, in_features, out_features, frac, scratch=None):
        self.weight, self.bias, self.multiplier = weight, bias, multiplier
        self.in_features, self.out_features = in_features, out_features
        self.frac = frac  # no scratch: it needs no memory to work in

    @classmethod
    def load(cls, file, name, in_features, out_features, scratch=None):
        """Take the layer `name` from a ModelFile."""
        layer = cls(
            file.tensor(name + ".weight", "I8", [out_features, in_features]),
            file.tensor(name + ".bias", "I32", [out_features]),
            file.tensor(name + ".multiplier", "I32", [out_features]),
            in_features,
            out_features,
            file.frac(name),
        )
        return probe(file, name, layer, bytes(in_features))

    def __call__(self, x, out=None):
        """x: int8 [in_features]; out: int32 [out_features], returned."""
        if out is None:
            out = ternary.heap(self.out_features * 4, "i")  # read by Python, not by layers
        ternary.ridge_scores(x, self.weight, self.multiplier, self.bias, out)
        return out


class TernaryLayerNorm:
    """int16 residual stream [rows, width] -> int8 [rows, width] (SPEC 6); gamma and beta are ternary."""

    def __init__(self, weight, bias, gain, gain_shift, beta, width, frac=None, scratch=None):
        self.weight, self.bias, self.width = weight, bias, width
        self.gain, self.gain_shift, self.beta = gain, gain_shift, beta
        self.frac, self.scratch = frac, scratch or Scratch()

    @classmethod
    def load(cls, file, name, width, scratch=None):
        """Take the layer `name` from a ModelFile."""
        return cls(
            file.tensor(name + ".weight", "U8", [width], trits=True),
            file.tensor(name + ".bias", "U8", [width], trits=True),
            file.scale(name, "gain"),
            file.scale(name, "gain_shift"),
            file.scale(name, "beta"),
            width,
            file.frac(name),
            scratch,
        )

    def __call__(self, x, out=None):
        """x: int16 [rows, width] of typecode "h"; out: int8 [rows, width], returned."""
        if out is None:
            out = ternary.arena(len(x))
        work = self.scratch.get(ternary.layernorm_scratch(self.width))
        ternary.layernorm(x, self.weight, self.bias, self.gain, self.gain_shift, self.beta, self.width, out, work)
        return out


class Activation:
    """A function int8 -> int8 as a table of 256 values (SPEC 8)."""

    def __init__(self, table, frac=None):
        self.table = table
        self.frac = frac

    @classmethod
    def load(cls, file, name):
        """Take the activation `name` from a ModelFile."""
        return cls(file.tensor(name + ".table", "I8", [256]), file.frac(name))

    def __call__(self, x, out=None):
        """x: int8, of any shape; out: the same, returned; without it x is changed in place."""
        if out is None:
            out = x
        ternary.lookup(x, self.table, out)
        return out


class Softmax:
    """int8 scores [tokens, tokens] -> int8 weights 0..127 (SPEC 7.2, 7.3)."""

    def __init__(self, table):
        self.table = table

    @classmethod
    def load(cls, file, name):
        """Take the softmax `name` from a ModelFile."""
        return probe(file, name, cls(file.tensor(name + ".table", "I8", [256])), bytes(1), ternary.heap(1))

    def __call__(self, scores, out=None):
        """scores: int8 [tokens, tokens]; out: int8 of the same shape, returned, out may be scores."""
        if out is None:
            out = ternary.arena(len(scores))
        ternary.softmax(scores, tokens_of(scores), self.table, out)
        return out


class Attention:
    """int8 [tokens, width] -> int8 [tokens, width] before the residual addition (SPEC 7 between two linears).

    While this is a plain Attention with a plain Softmax, one C call computes all heads. With any other softmax, or in
    a subclass, it goes head by head through `scores`, `softmax` and `values`; the same bits come out if those compute
    the same.
    """

    def __init__(self, qkv, softmax, proj, heads, width, score_shift, value_gain, scratch=None):
        self.qkv, self.softmax, self.proj = qkv, softmax, proj
        self.heads, self.width = heads, width
        self.score_shift, self.value_gain = score_shift, value_gain
        self.scratch = scratch or Scratch()

    @classmethod
    def load(cls, file, name, width, heads, scratch=None):
        """Take the layer `name` from a ModelFile."""
        return cls(
            TernaryBitLinear.load(file, name + ".qkv", width, 3 * width, file.fracs(name + ".qkv", 3), scratch),
            Softmax.load(file, name + ".softmax"),
            TernaryBitLinear.load(file, name + ".proj", width, width, file.frac(name + ".proj"), scratch),
            heads,
            width,
            file.scale(name, "score_shift"),
            file.scale(name, "value_gain"),
            scratch,
        )

    def __call__(self, x, out=None):
        """x, out: int8 [tokens, width], out may be x."""
        return self.proj(self.mix(x), ternary.arena(len(x)) if out is None else out)

    def mix(self, x, out=None, qkv=None):
        """What the heads make of x, before `proj`: int8 [tokens, width] -> out, int8 [tokens, width].

        qkv: memory for q, k and v of all heads, int8 [tokens, 3 * width], or for k and v of fewer, int8
        [tokens, 2 * heads * head width]: as many are computed at a time, and their q lie in `out` meanwhile.
        """
        tokens = rows_of(x, self.width)
        if out is None:
            out = ternary.arena(len(x))
        heads, head_width = self.heads, self.width // self.heads
        if qkv is not None and len(qkv) < 3 * len(x):
            heads = min(heads, len(qkv) // (2 * tokens * head_width))
        if heads == self.heads or type(self.qkv) is not TernaryBitLinear or not self._plain():
            fits = qkv is not None and len(qkv) >= 3 * len(x)
            place = qkv[: 3 * len(x)] if fits else ternary.arena(3 * len(x))
            return self.attend(self.qkv(x, place), tokens, out)
        columns = heads * head_width
        kv = qkv[: 2 * tokens * columns]
        for first in range(0, self.width, columns):
            self.qkv.columns(self.width + first, columns, x, kv, 0)
            self.qkv.columns(2 * self.width + first, columns, x, kv, columns)
            self.qkv.columns(first, columns, x, out, first)
            self._attend(ternary.attention_columns, kv, tokens, heads, out, first)
        return out

    def attend(self, qkv, tokens, out):
        """qkv: int8 [tokens, 3 * width] -> out, int8 [tokens, width] (SPEC 7)."""
        if self._plain():
            self._attend(ternary.attention, qkv, tokens, self.heads, out, 0)
        else:
            for head in range(self.heads):
                scores = self.scores(qkv, tokens, head)
                self.values(self.softmax(scores, scores), qkv, tokens, head, out)
        return out

    def _plain(self):
        return type(self) is Attention and type(self.softmax) is Softmax

    def _attend(self, operation, qkv, tokens, heads, out, column):
        table, work = self.softmax.table, self._work(tokens)
        if column + heads * (self.width // self.heads) == self.width:
            prefetch(self.proj)  # which follows the last heads
        operation(qkv, tokens, heads, self.score_shift, table, self.value_gain, out, column, work)

    def _work(self, tokens):
        of = tokens, self.width // self.heads
        return self.scratch.get(ternary.attention_scratch(*of), ternary.attention_scratch_least, *of)

    def scores(self, qkv, tokens, head):
        """int8 scores [tokens, tokens] of one head (SPEC 7.1)."""
        out = ternary.arena(tokens * tokens)
        ternary.attention_scores(qkv, tokens, self.heads, head, self.score_shift, out, self._work(tokens))
        return out

    def values(self, weights, qkv, tokens, head, out):
        """Mean of one head's v under int8 weights [tokens, tokens], into its columns of `out` (SPEC 7.4 to 7.6)."""
        ternary.attention_values(weights, qkv, tokens, self.heads, head, self.value_gain, out, self._work(tokens))


class Mlp:
    """int8 [tokens, width] -> int8 [tokens, width] through `hidden` features.

    `act` gets the hidden buffer (int8) twice, as x and as out: it works in place, or returns another of the same size.
    """

    def __init__(self, fc1, act, fc2, width, hidden, scratch=None):
        self.fc1, self.act, self.fc2 = fc1, act, fc2
        self.width, self.hidden, self.scratch = width, hidden, scratch or Scratch()

    @classmethod
    def load(cls, file, name, width, hidden, scratch=None):
        """Take the layer `name` from a ModelFile."""
        return cls(
            TernaryBitLinear.load(file, name + ".fc1", width, hidden, file.frac(name + ".fc1"), scratch),
            Activation.load(file, name + ".act"),
            TernaryBitLinear.load(file, name + ".fc2", hidden, width, file.frac(name + ".fc2"), scratch),
            width,
            hidden,
            scratch,
        )

    def __call__(self, x, out=None):
        """x, out: int8 [tokens, width], out may be x."""
        return self.fc2(self._hidden(x), ternary.arena(len(x)) if out is None else out)

    def add(self, x, out, residual, shift):
        """Add what a call makes in `out` to the residual stream: int16 [tokens, width], typecode "h" (SPEC 5.1)."""
        add(self.fc2, self._hidden(x), out, residual, shift)

    def _hidden(self, x):
        size, work = rows_of(x, self.width) * self.hidden, self.scratch.work
        planned = work is not None and len(work.hidden) >= size
        hidden = self.fc1(x, work.hidden[:size] if planned else ternary.arena(size))  # type: ignore[union-attr]
        prefetch(self.fc2)
        return self.act(hidden, hidden)


class Block:
    """One transformer block, added to the residual stream (SPEC 9.2)."""

    def __init__(self, norm1, attn, norm2, mlp, attn_shift, mlp_shift, scratch=None):
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp
        self.attn_shift, self.mlp_shift = attn_shift, mlp_shift
        self.scratch = scratch or Scratch()

    @classmethod
    def load(cls, file, name, width, hidden, heads, scratch=None):
        """Take the block `name` from a ModelFile."""
        return cls(
            TernaryLayerNorm.load(file, name + ".norm1", width, scratch),
            Attention.load(file, name + ".attn", width, heads, scratch),
            TernaryLayerNorm.load(file, name + ".norm2", width, scratch),
            Mlp.load(file, name + ".mlp", width, hidden, scratch),
            file.scale(name + ".attn.proj", "residual_shift"),
            file.scale(name + ".mlp.fc2", "residual_shift"),
            scratch,
        )

    def __call__(self, x, out=None):
        """x: int16 residual stream, changed in place and returned; `out` is not used.

        A stream of the model's own size goes through the buffers of its plan.
        """
        work, size = self.scratch.work, len(x)
        if work is None or size != len(work.stream):
            for norm, part, shift in (
                (self.norm1, self.attn, self.attn_shift),
                (self.norm2, self.mlp, self.mlp_shift),
            ):
                ternary.residual_add(x, part(norm(x, ternary.arena(size)), ternary.arena(size)), shift)
            return x
        stream, x = x, memoryview(x)  # an array's slices would be copies
        width, rows = work.width, work.rows
        fused, plain, apart = unchanged(self.attn, Attention), unchanged(self.mlp, Mlp), work.mixed[:size]
        if fused:
            prefetch(self.attn.qkv)
            mixed = self._mix(x, work)
        else:
            ternary.residual_add(x, self.attn(self.norm1(x, ternary.arena(size)), apart), self.attn_shift)
        for first in range(0, size, rows * width):
            last = min(first + rows * width, size)
            part, buffer = x[first:last], work.branch[: last - first]
            if fused:
                add(self.attn.proj, mixed[first:last], buffer, part, self.attn_shift)
            prefetch(getattr(self.mlp, "fc1", None))
            normed = self.norm2(part, buffer)
            if plain:
                self.mlp.add(normed, buffer, part, self.mlp_shift)
            else:
                # It gets memory apart, which attention no longer needs: an Mlp would write over its x.
                ternary.residual_add(part, self.mlp(normed, apart[first:last]), self.mlp_shift)
        return stream

    def _mix(self, x, work):
        """The first half up to `proj`: with all tokens at once, or with all heads."""
        attn, size, step = self.attn, len(x), work.rows * work.width
        mixed = work.mixed[:size]
        if work.whole:
            return attn.mix(self.norm1(x, work.normed[:size]), mixed, work.qkv)
        qkv = work.qkv[: 3 * size]
        for first in range(0, size, step):
            last = min(first + step, size)
            out = qkv[3 * first : 3 * last]
            put(attn.qkv(self.norm1(x[first:last], work.normed[: last - first]), out), out)
        return attn.attend(qkv, size // work.width, mixed)
