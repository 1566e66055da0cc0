"""The layers of a fully ternary vision transformer, over the C module `ternary`.

Buffers are bytes-like: int8 activations [rows, features], the int16 residual stream as typecode "h". Every layer can
be called on its own: without `out` it allocates its result.
"""

import ternary


class Scratch:
    """Working memory that layers share; grows to the largest request."""

    def __init__(self):
        self._buffer = ternary.arena(16)

    def get(self, size):
        """At least `size` bytes, 16-byte aligned, with any content."""
        if len(self._buffer) < size:
            self._buffer = None
            self._buffer = ternary.arena(size)
        return self._buffer


scratch = Scratch()


class TernaryBitLinear:
    """int8 [rows, in_features] -> int8 [rows, out_features] (SPEC 4.1 to 4.5).

    weight: packed trits; bias int16, multiplier int8 [out_features]; shift uint8 per 16 outputs;
    frac: the output means y * 2^-frac (for information; None if unknown).
    """

    def __init__(self, weight, bias, multiplier, shift, in_features, frac=None):
        self.weight, self.bias, self.multiplier, self.shift = weight, bias, multiplier, shift
        self.in_features, self.out_features = in_features, len(multiplier)
        self.frac = frac

    @classmethod
    def load(cls, file, name, in_features, out_features, frac=None):
        """Take the layer `name` from a ModelFile."""
        return cls(
            file.tensor(name + ".weight", "U8", [out_features, in_features], trits=True),
            file.tensor(name + ".bias", "I16", [out_features]),
            file.tensor(name + ".multiplier", "I8", [out_features]),
            file.tensor(name + ".shift", "U8", [(out_features + 15) // 16]),
            in_features,
            frac,
        )

    def __call__(self, x, out=None):
        if out is None:
            out = ternary.arena(len(x) // self.in_features * self.out_features)
        work = scratch.get(ternary.linear_scratch(self.in_features))
        ternary.linear(x, self.weight, self.bias, self.multiplier, self.shift, out, work)
        return out

    def trits(self, tile):
        """Weights of outputs 16 * tile to 16 * tile + 15, int8 [in_features, 16], each -1, 0 or +1."""
        size = (self.in_features + 4) // 5 * 16
        out = ternary.arena(self.in_features * 16)
        ternary.decode(self.weight[tile * size : (tile + 1) * size], out)
        return out


class TernaryBitConv2d(TernaryBitLinear):
    """Patch embedding: int8 picture [height, width, channels] -> int8 [patches, out_features] (SPEC 4.6)."""

    def __init__(self, weight, bias, multiplier, shift, in_features, frac=None, patch_size=1, channels=1):
        super().__init__(weight, bias, multiplier, shift, in_features, frac)
        self.patch_size, self.channels = patch_size, channels

    @classmethod
    def load_patches(cls, file, name, patch_size, channels, out_features, frac=None):
        """Take the convolution `name` with a square kernel from a ModelFile."""
        layer = cls.load(file, name, patch_size * patch_size * channels, out_features, frac)
        layer.patch_size, layer.channels = patch_size, channels
        return layer

    def __call__(self, picture, width, out=None):
        rows = ternary.arena(len(picture))
        ternary.patches(picture, width, self.channels, self.patch_size, rows)
        return super().__call__(rows, out)


class TernaryHead:
    """int8 [rows, in_features] -> int32 logits [rows, out_features] (SPEC 4.7); a logit means y * 2^-frac."""

    def __init__(self, weight, bias, multiplier, in_features, frac):
        self.weight, self.bias, self.multiplier = weight, bias, multiplier
        self.in_features, self.out_features = in_features, len(multiplier) // 2
        self.frac = frac

    @classmethod
    def load(cls, file, name, in_features, out_features):
        """Take the layer `name` from a ModelFile."""
        return cls(
            file.tensor(name + ".weight", "U8", [out_features, in_features], trits=True),
            file.tensor(name + ".bias", "I32", [out_features]),
            file.tensor(name + ".multiplier", "I16", [out_features]),
            in_features,
            file.scale(name, "frac", -64, 64),
        )

    def __call__(self, x, out=None):
        if out is None:
            out = ternary.arena(len(x) // self.in_features * self.out_features * 4, "i")
        work = scratch.get(ternary.linear_scratch(self.in_features))
        ternary.linear_logits(x, self.weight, self.bias, self.multiplier, out, work)
        return out


class TernaryLayerNorm:
    """int16 residual stream [rows, width] -> int8 [rows, width] (SPEC 6); gamma and beta are ternary."""

    def __init__(self, weight, bias, gain, gain_shift, beta, width, frac=None):
        self.weight, self.bias, self.width = weight, bias, width
        self.gain, self.gain_shift, self.beta = gain, gain_shift, beta
        self.frac = frac

    @classmethod
    def load(cls, file, name, width):
        """Take the layer `name` from a ModelFile."""
        return cls(
            file.tensor(name + ".weight", "U8", [width], trits=True),
            file.tensor(name + ".bias", "U8", [width], trits=True),
            file.scale(name, "gain", 1 << 14, (1 << 15) - 1),
            file.scale(name, "gain_shift", 0, 15),
            file.scale(name, "beta", 0, 32639),
            width,
            file.scale(name, "frac", -64, 64),
        )

    def __call__(self, x, out=None):
        if out is None:
            out = ternary.arena(len(x))
        work = scratch.get(ternary.layernorm_scratch(self.width))
        ternary.layernorm(x, self.weight, self.bias, self.gain, self.gain_shift, self.beta, self.width, out, work)
        return out


class Activation:
    """A function int8 -> int8 as a table of 256 values (SPEC 8); works in place."""

    def __init__(self, table, frac=None):
        self.table = table
        self.frac = frac

    @classmethod
    def load(cls, file, name):
        """Take the activation `name` from a ModelFile."""
        return cls(file.tensor(name + ".table", "I8", [256]), file.scale(name, "frac", -64, 64))

    def __call__(self, x):
        ternary.lookup(x, self.table, x)
        return x


class Softmax:
    """int8 scores [tokens, tokens] -> int8 weights 0..127 (SPEC 7.2, 7.3)."""

    def __init__(self, table):
        self.table = table

    def __call__(self, scores, tokens, out=None):
        if out is None:
            out = ternary.arena(len(scores))
        ternary.softmax(scores, tokens, self.table, out)
        return out


class Attention:
    """int8 [tokens, width] -> int8 [tokens, width] before the residual addition (SPEC 7 between two linears).

    While `softmax` is a plain Softmax one C call computes all heads; any other callable is called head by head with
    the scores, and the same bits come out if it computes the same.
    """

    def __init__(self, qkv, softmax, proj, heads, score_shift, value_gain):
        self.qkv, self.softmax, self.proj = qkv, softmax, proj
        self.heads, self.score_shift, self.value_gain = heads, score_shift, value_gain

    @classmethod
    def load(cls, file, name, width, heads):
        """Take the layer `name` from a ModelFile."""
        return cls(
            TernaryBitLinear.load(file, name + ".qkv", width, 3 * width),
            Softmax(file.tensor(name + ".softmax.table", "I8", [256])),
            TernaryBitLinear.load(file, name + ".proj", width, width, file.scale(name + ".proj", "frac", -64, 64)),
            heads,
            file.scale(name, "score_shift", 0, 15),
            file.scale(name, "value_gain", -1, 6),
        )

    def __call__(self, x, wide=None, out=None):
        """wide: memory to work in, int8 [tokens, 4 * width]: q, k, v and the heads' output; out may be x."""
        size = len(x)
        tokens = size // self.qkv.in_features
        if wide is None:
            wide = ternary.arena(4 * size)
        qkv, mixed = self.qkv(x, wide[: 3 * size]), wide[3 * size : 4 * size]
        if type(self.softmax) is Softmax:
            work = scratch.get(ternary.attention_scratch(tokens))
            ternary.attention(
                qkv, tokens, self.heads, self.score_shift, self.softmax.table, self.value_gain, mixed, work
            )
        else:
            for head in range(self.heads):
                weights = self.softmax(self.scores(qkv, tokens, head), tokens)
                ternary.attention_values(weights, qkv, tokens, self.heads, head, self.value_gain, mixed)
        return self.proj(mixed, out)

    def scores(self, qkv, tokens, head):
        """int8 scores [tokens, tokens] of one head (SPEC 7.1)."""
        out = ternary.arena(tokens * tokens)
        ternary.attention_scores(qkv, tokens, self.heads, head, self.score_shift, out)
        return out


class Mlp:
    """int8 [tokens, width] -> int8 [tokens, width] through `hidden` features. `act` takes the hidden buffer (int8)
    and returns it, or another of the same size."""

    def __init__(self, fc1, act, fc2):
        self.fc1, self.act, self.fc2 = fc1, act, fc2

    @classmethod
    def load(cls, file, name, width, hidden):
        """Take the layer `name` from a ModelFile."""
        return cls(
            TernaryBitLinear.load(file, name + ".fc1", width, hidden, file.scale(name + ".fc1", "frac", -64, 64)),
            Activation.load(file, name + ".act"),
            TernaryBitLinear.load(file, name + ".fc2", hidden, width, file.scale(name + ".fc2", "frac", -64, 64)),
        )

    def __call__(self, x, wide=None, out=None):
        """wide: memory to work in, at least int8 [tokens, hidden]; out may be x."""
        if wide is not None:
            wide = wide[: len(x) // self.fc1.in_features * self.fc1.out_features]
        return self.fc2(self.act(self.fc1(x, wide)), out)


class Block:
    """One transformer block, added to the residual stream in place (SPEC 9.2)."""

    def __init__(self, norm1, attn, norm2, mlp, attn_shift, mlp_shift):
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp
        self.attn_shift, self.mlp_shift = attn_shift, mlp_shift

    @classmethod
    def load(cls, file, name, width, hidden, heads):
        """Take the block `name` from a ModelFile."""
        return cls(
            TernaryLayerNorm.load(file, name + ".norm1", width),
            Attention.load(file, name + ".attn", width, heads),
            TernaryLayerNorm.load(file, name + ".norm2", width),
            Mlp.load(file, name + ".mlp", width, hidden),
            file.scale(name + ".attn.proj", "residual_shift", 0, 8),
            file.scale(name + ".mlp.fc2", "residual_shift", 0, 8),
        )

    def __call__(self, x, normed=None, wide=None):
        """x: int16 residual stream; normed, wide: int8 memory to work in, see VisionTransformer."""
        normed = self.norm1(x, normed)
        ternary.residual_add(x, self.attn(normed, wide, normed), self.attn_shift)
        self.norm2(x, normed)
        ternary.residual_add(x, self.mlp(normed, wide, normed), self.mlp_shift)
        return x
