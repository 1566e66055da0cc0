# SPDX-License-Identifier: MIT
"""A fully ternary vision transformer (SPEC 9)."""

import gc
from array import array
from math import exp

import ternary

from ftervit.layers import Block, PatchEmbed, TernaryHead, TernaryLayerNorm, patch_scratch, release, scratch

ROOM = "activations and picture"


class VisionTransformer:
    """Attributes are the layers under timm's names: patch_embed, blocks (a list), norm, head; labels, the class names;
    activation_bytes, what activations and scratch take as long as the model lives.

    Take one out, call it, put another in. model(picture) gives logits, predict(image) names.
    """

    def __init__(self, file, sram=None, piece=None):
        from ftervit.plan import Plan

        sizes = file.architecture
        self.plan = Plan(sizes, sram, piece)
        # Before anything is made, and once more in _allocate, when layers are.
        self._with_fewer_patches(self._check_room)
        self.labels = file.labels
        self.img_size, self.in_chans = sizes["img_size"], sizes["in_chans"]
        self.embed_dim = width = sizes["embed_dim"]
        hidden, heads = sizes["mlp_hidden"], sizes["num_heads"]
        self.tokens = self.plan.tokens
        # Both int32 arrays of SPEC 3.5.
        self.multiplier = array("i", file.preprocessing["multiplier"])
        self.offset = array("i", file.preprocessing["offset"])
        self.patch_embed = PatchEmbed.load(file, sizes)
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
        self.head = TernaryHead.load(file, "head", width, sizes["num_classes"])
        self.logit_frac = self.head.frac
        file.finish()
        self._with_fewer_patches(self._allocate)

    @classmethod
    def load(cls, path, sram=None, piece=None):
        """Open and check a model file, and make the model; its weights stay where the file lies.

        sram: bytes of internal memory for activations and scratch, in pieces of at most `piece`; what does not fit goes
        to PSRAM, as plan.Plan says. None: all that it takes.
        """
        from ftervit.modelfile import ModelFile

        return cls(ModelFile(path), sram, piece)

    def _with_fewer_patches(self, step):
        """Take a step, with patches cut in more passes as long as memory is short and the plan has no budget."""
        while True:
            try:
                return step()
            except MemoryError:
                if self.plan.sram or not self.plan.halve_patches():
                    raise

    def _check_room(self):
        from ftervit.modelfile import check_room

        check_room(self.plan.activation_bytes() + self.plan.picture_bytes(), ROOM)

    def _allocate(self):
        """One set of activations serves all blocks, laid out by the plan."""
        plan = self.plan
        for conv, rows in zip(self._convolutions(), plan.patch_rows):
            conv.patch_rows = rows
        self.activation_bytes = plan.activation_bytes()
        release()  # the scratch of the layers' first calls, and all that the last model had
        self._check_room()
        try:
            self._take()
            self._try_picture()
        except MemoryError:
            if hasattr(self, "_work"):
                del self._work  # before what it took is measured
            release()
            # MicroPython tells how much is free, not how much of it lies together.
            free = gc.mem_free() if hasattr(gc, "mem_free") else 0
            pieces = self.activation_bytes, sorted([plan.patch_bytes] + plan.pieces), free
            raise MemoryError("activations: need %d bytes in pieces of %s, %d are free, but scattered" % pieces)

    def _take(self):
        """All memory now, largest first, while the heap is least fragmented."""
        from ftervit.plan import Work

        plan = self.plan
        if not plan.sram:
            patch_scratch.get(plan.patch_bytes)
        self._work = work = Work(plan)
        scratch.use(work.scratch)  # type: ignore[attr-defined]
        if plan.sram:
            inside = plan.patches_inside()
            patch_scratch.use(work.hidden if inside else memoryview(bytearray(plan.patch_bytes)))  # type: ignore[attr-defined]

    def _try_picture(self):
        """Take for a moment what a picture needs: there may be enough, but scattered."""
        for pieces in self.plan.picture_pieces():
            tried = [ternary.arena(size) for size in pieces if size]
            del tried

    def _convolutions(self):
        return [stage.conv for stage in self.patch_embed.backbone] + [self.patch_embed.proj]

    def preprocess(self, image):
        """Image -> int8 picture [img_size, img_size, in_chans] (SPEC 3)."""
        square = image.square(self.img_size, self.in_chans)
        picture = ternary.arena(len(square))
        ternary.normalize(square, self.multiplier, self.offset, picture)
        return picture

    def embed(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] (SPEC 5.2); valid until the next call."""
        work = self._work
        x, width = work.stream, self.embed_dim
        cls_shift, patch_shift, pos_shift = self.shifts
        ternary.residual_start(x[:width], self.cls_token, cls_shift)
        patches = self.patch_embed(picture, work.mixed[: len(x) - width])  # type: ignore[attr-defined]
        ternary.residual_start(x[width:], patches, patch_shift)
        ternary.residual_add(x[width:], self.pos_embed, pos_shift)
        return x

    def __call__(self, picture):
        """int8 picture [img_size, img_size, in_chans] -> int32 logits [num_classes], typecode "i"."""
        x = self.embed(picture)
        for block in self.blocks:
            x = block(x, self._work)
        return self.head(self.norm(x[: self.embed_dim]))

    def predict(self, image, top=3):
        """The `top` most likely (label, probability) of an Image."""
        logits = self(self.preprocess(image))
        best = array("i", [0] * min(top, len(logits)))
        ternary.topk(logits, best)
        # Probabilities are for people; the order comes from the integers.
        unit = 2.0**-self.logit_frac
        powers = [exp((logit - logits[best[0]]) * unit) for logit in logits]
        total = sum(powers)
        return [(self.labels[index], powers[index] / total) for index in best]
