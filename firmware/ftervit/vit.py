# SPDX-License-Identifier: MIT
"""A fully ternary vision transformer (SPEC 9)."""

import gc
from array import array
from math import exp

import ternary

from ftervit.layers import Block, Int8Head, PatchEmbed, Scratch, TernaryHead, TernaryLayerNorm, put

try:
    from _thread import allocate_lock

    # Held while a thread looks at a model's mark and sets it, never longer.
    TAKING = allocate_lock()
except ImportError:  # a board without threads
    TAKING = None  # type: ignore[assignment]

UNKNOWN = "unknown"  # what predict says of a picture that is like none of the labels
ROOM = "activations and picture"


class VisionTransformer:
    """Attributes are the layers under timm's names: patch_embed, blocks (a list), norm, head; labels, the class names;
    digest, CRC-32 and size of the model file in 8 bytes; threshold, which the largest logit must reach for a name
    (SPEC 9.8), None: every one does.

    Take one out, call it, put another in. model(picture) gives logits, predict(image) names. A model owns the memory
    that it computes in: models do not disturb each other, and a model that is computing refuses a second picture with
    RuntimeError.
    """

    _mark = (False,)  # type: tuple | list

    def __init__(self, file, sram=None, piece=None, reserve=None):
        from ftervit.plan import Plan

        sizes, limits = file.architecture, (sram, piece, reserve)
        self._limits = limits
        self.plan = Plan(sizes, *limits)
        # Before anything is made, and once more in _allocate, when layers are.
        self._with_fewer_patches(self._check_room)
        self._scratch = scratch = Scratch()
        scratch.use(None, ternary.heap(self.plan.scratch))  # for the layers' first calls
        self.labels, self.digest = file.labels, file.digest
        self.img_size, self.in_chans = sizes["img_size"], sizes["in_chans"]
        self.embed_dim = width = sizes["embed_dim"]
        hidden, heads = sizes["mlp_hidden"], sizes["num_heads"]
        self.tokens = self.plan.tokens
        # Both int32 arrays of SPEC 3.5.
        self.multiplier = array("i", file.preprocessing["multiplier"])
        self.offset = array("i", file.preprocessing["offset"])
        self.patch_embed = PatchEmbed.load(file, sizes, scratch)
        self._convolutions = self.patch_embed.convolutions
        self.cls_token = file.tensor("cls_token", "I8", [width])
        self.pos_embed = file.tensor("pos_embed", "I8", [self.tokens - 1, width])
        branches = ("cls_token", "patch_embed.proj", "pos_embed")
        self.shifts = [file.scale(name, "residual_shift") for name in branches]
        self.blocks = []
        for i in range(sizes["depth"]):
            if hasattr(gc, "mem_free"):
                gc.collect()  # or else MicroPython spreads what stays over all of a small heap
            self.blocks.append(Block.load(file, "blocks.%d" % i, width, hidden, heads, scratch))
        self.norm = TernaryLayerNorm.load(file, "norm", width, scratch)
        self.pooling, self.threshold = sizes["pool"], file.threshold
        head = Int8Head if sizes["head"] == "int8" else TernaryHead
        self.head = head.load(file, "head", self.feature_count(self.pooling), sizes["num_classes"], scratch)
        self.logit_frac = self.head.frac
        file.finish()
        self._with_fewer_patches(self._allocate)

    @classmethod
    def load(cls, path, sram=None, piece=None, reserve=None):
        """Open and check a model file, and make the model; its weights stay where the file lies.

        On the chip, activations and scratch take internal memory as long as `reserve` bytes (None: 64 KB) stay free in
        one block for others; what does not fit goes to PSRAM, as `plan` says. sram, piece: take no more bytes in all,
        in pieces of at most `piece`. The first picture after ternary.cores(n) finds them laid out anew.
        """
        from ftervit.modelfile import ModelFile

        return cls(ModelFile(path), sram, piece, reserve)

    @property
    def activation_bytes(self):
        """Bytes that activations and scratch take as long as the model lives; 0 if they could not be had."""
        return 0 if self._scratch.work is None else self.plan.activation_bytes()

    def _with_fewer_patches(self, step):
        """Take a step, with patches cut in more passes as long as memory is short and the plan has no budget."""
        while True:
            try:
                return step()
            except MemoryError:
                if not self.plan.halve_patches():
                    raise

    def _check_room(self):
        from ftervit.modelfile import check_room

        check_room(self.plan.heap_bytes() + self.plan.picture_bytes(), ROOM)

    def _allocate(self):
        """One set of activations serves all blocks, laid out by the plan."""
        from ftervit.plan import Work

        plan = self.plan
        for conv, rows in zip(self._convolutions, plan.patch_rows):
            if rows != conv.rows():
                conv.patch_rows = rows
        self._scratch.use(None)  # not the scratch of the layers' first calls
        self._check_room()
        try:
            work = Work(plan)
            self._try_picture()
        except MemoryError:
            work = None  # before what it took is measured
            # MicroPython tells how much is free, not how much of it lies together.
            free = gc.mem_free() if hasattr(gc, "mem_free") else 0
            needed = plan.activation_bytes()
            pieces = needed, sorted([plan.patch_bytes] + [size for size in plan.pieces if size]), free
            raise MemoryError("activations: need %d bytes in pieces of %s, %d are free, but scattered" % pieces)
        self._scratch.use(work)

    def _try_picture(self):
        """Take for a moment what a picture needs: there may be enough, but scattered."""
        for pieces in self.plan.picture_pieces():
            tried = [ternary.heap(size) for size in pieces if size]
            del tried

    def _ready(self):
        """The buffers, laid out for the cores that are in use."""
        work = self._scratch.work
        if work is None or work.cores != ternary.cores():
            from ftervit.plan import Plan

            work = None
            self._scratch.use(None)
            gc.collect()
            self.plan = Plan(self.plan.sizes, *self._limits)
            self._with_fewer_patches(self._allocate)
            work = self._scratch.work
        return work

    def _alone(self, function, picture):
        """function(picture), refused with RuntimeError while the model computes already."""
        mark = [True]
        try:
            if TAKING is None:
                self._take(mark)
            else:
                with TAKING:
                    self._take(mark)
            return function(picture)
        finally:
            # No condition and no call, between which Ctrl-C could come; what was refused clears its own mark alone.
            mark[0] = False

    def _take(self, mark):
        if self._mark[0]:
            raise RuntimeError("model: it is computing another picture; load one model for each thread, or take turns")
        self._mark = mark

    def preprocess(self, image):
        """Image -> int8 picture [img_size, img_size, in_chans] (SPEC 3)."""
        square = image.square(self.img_size, self.in_chans)
        picture = ternary.heap(len(square))
        ternary.normalize(square, self.multiplier, self.offset, picture)
        return picture

    def embed(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] (SPEC 5.2); valid until the next call."""
        return self._alone(self._embed, picture)

    def _embed(self, picture):
        work, width = self._ready(), self.embed_dim
        x = work.stream
        cls_shift, patch_shift, pos_shift = self.shifts
        ternary.residual_start(x[:width], self.cls_token, cls_shift)
        patches = self.patch_embed(picture, work.mixed[: len(x) - width])
        ternary.residual_start(x[width:], patches, patch_shift)
        ternary.residual_add(x[width:], self.pos_embed, pos_shift)
        return x

    def __call__(self, picture):
        """int8 picture [img_size, img_size, in_chans] -> int32 logits [num_classes], typecode "i"."""
        return self._alone(self._logits, picture)

    def _through_blocks(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] behind the last block (SPEC 9.2)."""
        x = self._embed(picture)
        for block in self.blocks:
            x = block(x, x)
        return x

    def feature_count(self, pooling="token"):
        """Values that `features` gives; ValueError for a pooling that there is not."""
        from ftervit.architecture import POOLINGS, feature_count

        if pooling not in POOLINGS:
            raise ValueError("pooling is %r, needs one of %s" % (pooling, ", ".join(POOLINGS)))
        return feature_count(self.embed_dim, pooling)

    def features(self, picture, pooling="token", out=None):
        """int8 picture [img_size, img_size, in_chans] -> int8 features behind the final norm (SPEC 9.5).

        pooling: "token", the class token's; "mean", the mean of the patch tokens; "token+mean", both; out: int8
        [feature_count(pooling)], returned, by default new memory.
        """
        count = self.feature_count(pooling)
        if out is None:
            out = ternary.heap(count)
        if len(out) != count:
            raise ValueError("out has %d bytes, needs %d" % (len(out), count))
        return self._alone(lambda picture: self._features(picture, pooling, out), picture)

    def _features(self, picture, pooling, out):
        x, width = self._through_blocks(picture), self.embed_dim
        if pooling != "mean":
            token = out[:width]
            put(self.norm(x[:width], token), token)
        if pooling != "token":
            patches = self._scratch.work.mixed[: len(x) - width]  # type: ignore[union-attr]
            ternary.mean_rows(self.norm(x[width:], patches), out[len(out) - width :])
        return out

    def _logits(self, picture):
        if self.pooling == "token":
            x, width = self._through_blocks(picture), self.embed_dim
            x = self.norm(x[:width], self._scratch.work.branch[:width])  # type: ignore[union-attr]
        else:
            x = self._features(picture, self.pooling, ternary.heap(self.feature_count(self.pooling)))
        outputs = getattr(self.head, "out_features", self.plan.sizes["num_classes"])
        return self.head(x, ternary.heap(4 * outputs, "i"))  # read by Python, not by layers

    def predict(self, image, top=3):
        """The `top` most likely (label, probability) of an Image.

        "unknown" comes first if the largest logit is below the threshold (SPEC 9.8).
        """
        logits = self(self.preprocess(image))
        best = array("i", [0] * min(top, len(logits)))
        ternary.topk(logits, best)
        # Probabilities are for people; the order comes from the integers.
        unit = 2.0**-self.logit_frac
        powers = [exp((logit - logits[best[0]]) * unit) for logit in logits]
        total = sum(powers)
        found = [(self.labels[index], powers[index] / total) for index in best]
        if self.threshold is None or logits[best[0]] >= self.threshold:
            return found
        # For people, too: 1/2 at the threshold.
        known = 1 / (1 + exp(min(60.0, (self.threshold - logits[best[0]]) * unit)))
        return ([(UNKNOWN, 1 - known)] + [(label, known * chance) for label, chance in found])[:top]
