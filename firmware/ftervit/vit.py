# SPDX-License-Identifier: MIT
"""A fully ternary vision transformer (SPEC 9)."""

import gc
from array import array
from math import exp

import ternary

from ftervit.layers import (
    Block,
    Int8Head,
    PatchEmbed,
    TernaryHead,
    TernaryLayerNorm,
    patch_scratch,
    put,
    release,
    scratch,
)

UNKNOWN = "unknown"  # what predict says of a picture that is like none of the labels
ROOM = "activations and picture"


class VisionTransformer:
    """Attributes are the layers under timm's names: patch_embed, blocks (a list), norm, head; labels, the class names;
    digest, CRC-32 and size of the model file in 8 bytes; activation_bytes, what activations and scratch take as long as
    the model lives; threshold, which the largest logit must reach for a name (SPEC 9.8), None: every one does.

    Take one out, call it, put another in. model(picture) gives logits, predict(image) names.
    """

    def __init__(self, file, sram=None, piece=None, reserve=None):
        from ftervit.plan import Plan

        sizes, limits = file.architecture, (sram, piece, reserve)
        self._limits = limits
        self.plan = Plan(sizes, *limits)
        # Before anything is made, and once more in _allocate, when layers are.
        self._with_fewer_patches(self._check_room)
        release()  # all that the last model had
        scratch.use(ternary.heap(self.plan.scratch))  # for the layers' first calls
        self.labels, self.digest = file.labels, file.digest
        self.img_size, self.in_chans = sizes["img_size"], sizes["in_chans"]
        self.embed_dim = width = sizes["embed_dim"]
        hidden, heads = sizes["mlp_hidden"], sizes["num_heads"]
        self.tokens = self.plan.tokens
        # Both int32 arrays of SPEC 3.5.
        self.multiplier = array("i", file.preprocessing["multiplier"])
        self.offset = array("i", file.preprocessing["offset"])
        self.patch_embed = PatchEmbed.load(file, sizes)
        self._convolutions = [stage.conv for stage in self.patch_embed.backbone] + [self.patch_embed.proj]
        self.cls_token = file.tensor("cls_token", "I8", [width])
        self.pos_embed = file.tensor("pos_embed", "I8", [self.tokens - 1, width])
        branches = ("cls_token", "patch_embed.proj", "pos_embed")
        self.shifts = [file.scale(name, "residual_shift") for name in branches]
        self.blocks = []
        for i in range(sizes["depth"]):
            if hasattr(gc, "mem_free"):
                gc.collect()  # or else MicroPython spreads what stays over all of a small heap
            self.blocks.append(Block.load(file, "blocks.%d" % i, width, hidden, heads))
        self.norm = TernaryLayerNorm.load(file, "norm", width)
        self.pooling, self.threshold = sizes["pool"], file.threshold
        head = Int8Head if sizes["head"] == "int8" else TernaryHead
        self.head = head.load(file, "head", self.feature_count(self.pooling), sizes["num_classes"])
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
            conv.patch_rows = rows
        self._let_go()  # the scratch of the layers' first calls, and all that the last plan had
        self._check_room()
        try:
            self._work = Work(plan)
            self._try_picture()
        except MemoryError:
            self._let_go()  # before what it took is measured
            # MicroPython tells how much is free, not how much of it lies together.
            free = gc.mem_free() if hasattr(gc, "mem_free") else 0
            needed = plan.activation_bytes()
            pieces = needed, sorted([plan.patch_bytes] + [size for size in plan.pieces if size]), free
            raise MemoryError("activations: need %d bytes in pieces of %s, %d are free, but scattered" % pieces)
        self.activation_bytes = plan.activation_bytes()
        self._ready()

    def _let_go(self):
        # Not `del`: MicroPython would keep the value in the table of attributes.
        self._work = None  # type: ignore[assignment]
        release()

    def _try_picture(self):
        """Take for a moment what a picture needs: there may be enough, but scattered."""
        for pieces in self.plan.picture_pieces():
            tried = [ternary.heap(size) for size in pieces if size]
            del tried

    def _ready(self):
        """The buffers, laid out for the cores that are in use; layers take their scratch from them from now on."""
        if self._work is None or self.plan.cores != ternary.cores():
            from ftervit.plan import Plan

            self._let_go()
            gc.collect()
            self.plan = Plan(self.plan.sizes, *self._limits)
            self._with_fewer_patches(self._allocate)
        work = self._work
        scratch.use(work.scratch)  # type: ignore[attr-defined]
        patch_scratch.use(work.patches)
        return work

    def preprocess(self, image):
        """Image -> int8 picture [img_size, img_size, in_chans] (SPEC 3)."""
        square = image.square(self.img_size, self.in_chans)
        picture = ternary.heap(len(square))
        ternary.normalize(square, self.multiplier, self.offset, picture)
        return picture

    def embed(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] (SPEC 5.2); valid until the next call."""
        work, width = self._ready(), self.embed_dim
        x = work.stream
        cls_shift, patch_shift, pos_shift = self.shifts
        ternary.residual_start(x[:width], self.cls_token, cls_shift)
        maps = (work.maps,) if type(self.patch_embed) is PatchEmbed else ()
        patches = self.patch_embed(picture, work.mixed[: len(x) - width], *maps)
        ternary.residual_start(x[width:], patches, patch_shift)
        ternary.residual_add(x[width:], self.pos_embed, pos_shift)
        return x

    def _through_blocks(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] behind the last block (SPEC 9.2)."""
        x = self.embed(picture)
        for block in self.blocks:
            x = block(x, self._work)
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
        count, width = self.feature_count(pooling), self.embed_dim
        if out is None:
            out = ternary.heap(count)
        if len(out) != count:
            raise ValueError("out has %d bytes, needs %d" % (len(out), count))
        x = self._through_blocks(picture)
        if pooling != "mean":
            token = out[:width]
            put(self.norm(x[:width], token), token)
        if pooling != "token":
            patches = self._work.mixed[: len(x) - width]  # type: ignore[attr-defined]
            ternary.mean_rows(self.norm(x[width:], patches), out[count - width :])
        return out

    def __call__(self, picture):
        """int8 picture [img_size, img_size, in_chans] -> int32 logits [num_classes], typecode "i"."""
        if self.pooling != "token":
            return self.head(self.features(picture, self.pooling))
        x, width = self._through_blocks(picture), self.embed_dim
        return self.head(self.norm(x[:width], self._work.branch[:width]))  # type: ignore[attr-defined]

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
