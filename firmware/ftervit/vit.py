# SPDX-License-Identifier: MIT
"""A fully ternary vision transformer (SPEC 9)."""

from array import array
from math import exp

import ternary

from ftervit.layers import Block, PatchEmbed, TernaryHead, TernaryLayerNorm, patch_scratch, scratch
from ftervit.modelfile import ModelFile, check_room, grids
from ftervit.plan import Plan, Work


class VisionTransformer:
    """Attributes are the layers under timm's names: patch_embed, blocks (a list), norm, head.

    Take one out, call it, put another in. model(picture) gives logits, predict(image) names.
    """

    def __init__(self, file, sram=None, piece=None):
        sizes = file.architecture
        self.labels = file.labels
        self.img_size, self.in_chans = sizes["img_size"], sizes["in_chans"]
        self.embed_dim = width = sizes["embed_dim"]
        hidden, heads = sizes["mlp_hidden"], sizes["num_heads"]
        self.tokens = 1 + grids(sizes)[-1][0] ** 2
        # Both int32 arrays of SPEC 3.5.
        self.multiplier = array("i", file.preprocessing["multiplier"])
        self.offset = array("i", file.preprocessing["offset"])
        self.patch_embed = PatchEmbed.load(file, sizes)
        self.cls_token = file.tensor("cls_token", "I8", [width])
        self.pos_embed = file.tensor("pos_embed", "I8", [self.tokens - 1, width])
        branches = ("cls_token", "patch_embed.proj", "pos_embed")
        self.shifts = [file.scale(name, "residual_shift", 0, 8) for name in branches]
        self.blocks = [Block.load(file, "blocks.%d" % i, width, hidden, heads) for i in range(sizes["depth"])]
        self.norm = TernaryLayerNorm.load(file, "norm", width)
        self.head = TernaryHead.load(file, "head", width, sizes["num_classes"])
        self.logit_frac = self.head.frac
        file.finish()
        self._allocate(Plan(sizes, sram, piece))

    @classmethod
    def load(cls, path, sram=None, piece=None):
        """Open and check a model file, and make the model; its weights stay where the file lies.

        sram: bytes of internal memory for activations and scratch, in pieces of at most `piece`; what does not fit goes
        to PSRAM, as plan.Plan says. None: all that it takes.
        """
        return cls(ModelFile(path), sram, piece)

    def _allocate(self, plan):
        """One set of activations serves all blocks, laid out by the plan."""
        self.plan = plan
        self.activation_bytes = sum(size for _, _, size in plan.places.values()) if plan.sram else sum(plan.pieces)
        for conv, rows in zip(self._convolutions(), plan.patch_rows):
            conv.patch_rows = rows
        check_room(self.activation_bytes + self._picture_bytes(), "activations and picture")
        # All memory now, largest first, while the heap is least fragmented.
        patches = max(conv.patch_bytes() for conv in self._convolutions())
        if not plan.sram:
            patch_scratch.get(patches)
        scratch.use(b"")  # that of the layers' first calls
        self._work = work = Work(plan)
        scratch.use(work.scratch)
        if plan.sram:
            patch_scratch.use(work.hidden if patches <= len(work.hidden) else memoryview(bytearray(patches)))

    def _convolutions(self):
        return [stage.conv for stage in self.patch_embed.backbone] + [self.patch_embed.proj]

    def _picture_bytes(self):
        """What a picture of the network's own size needs beside the activations.

        Its pixels and the int8 picture, which stay, the scratch for patches, and the most of: the square; what a
        convolution takes and makes (`proj` among the activations); the last norm's row and the logits.
        """
        picture = self.img_size * self.img_size * self.in_chans
        needed = picture + ternary.resize_scratch(self.img_size, self.in_chans)
        patches = before = 0
        for conv in self._convolutions():
            made = 0 if conv is self.patch_embed.proj else conv.out_bytes()
            patches = max(patches, conv.patch_bytes())
            needed = max(needed, before + made)
            before = made
        return 2 * picture + patches + max(needed, self.embed_dim + 4 * len(self.labels))

    def preprocess(self, image):
        """Image -> int8 picture [img_size, img_size, in_chans] (SPEC 3)."""
        square = image.square(self.img_size, self.in_chans)
        picture = ternary.arena(len(square))
        ternary.normalize(square, self.multiplier, self.offset, picture)
        return picture

    def embed(self, picture):
        """int8 picture -> int16 residual stream [tokens, embed_dim] (SPEC 5.2); valid until the next call."""
        x, width = self._work.stream, self.embed_dim
        cls_shift, patch_shift, pos_shift = self.shifts
        ternary.residual_start(x[:width], self.cls_token, cls_shift)
        patches = self.patch_embed(picture, self._work.mixed[: len(x) - width])
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
