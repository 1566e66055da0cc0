# SPDX-License-Identifier: MIT
"""Choose the static power-of-two scale of every activation from a few training pictures."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.integer.network import (
    STAGE,
    IntegerNetwork,
    Place,
    class_token,
    fold_linear,
    head_frac,
    layernorm_frac,
    positions,
    qkv_limits,
)
from trainer.model.student import Student

CANDIDATES = range(-4, 13)
RESIDUAL_HEADROOM = 2.0  # pictures beyond the calibration set may go this far past its largest value


def squared_error(x: Tensor, frac: int, low: Tensor | float, high: Tensor | float) -> float:
    """Mean squared error of rounding x to integers of `frac` clipped to low..high."""
    unit = 2.0**frac
    restored = torch.minimum(torch.maximum(torch.round(x * unit), torch.as_tensor(low)), torch.as_tensor(high)) / unit
    return (restored - x).square().mean().item()


def best_frac(x: Tensor, limits: Callable[[int], tuple[Tensor | float, Tensor | float]] | None = None) -> int:
    """The frac with the least squared error on x; limits(frac) gives the range, int8's by default."""
    limits = limits or (lambda frac: (-128.0, 127.0))
    return min(CANDIDATES, key=lambda frac: squared_error(x, frac, *limits(frac)))


def record(student: Student, images: Tensor) -> dict[str, Tensor]:
    """Float activations of every layer on `images`, by timm name: ".in" and ".out" of each ternary layer and block."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in student.vit.named_modules():
        if not name:
            continue

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            seen[f"{name}.in"], seen[f"{name}.out"] = inputs[0].detach(), output.detach()

        hooks.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            student.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class Calibration:
    """Fills `fracs` layer by layer, in the order of the forward pass."""

    def __init__(self, student: Student, images: Tensor):
        if student.fracs:
            raise TrainerError("the student is calibrated already")
        self.seen = record(student, images)
        self.student, self.vit = student, student.vit
        # The network reads the fracs that are being filled in.
        student.fracs = self.fracs = {}
        self.network = IntegerNetwork(student)
        levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, -1, -1, len(student.pixels.mean))
        self.fracs["input"] = best_frac(student.pixels.normalize(levels))

    def limits(self, name: str, largest: Tensor, part: slice) -> Callable[[int], tuple[Tensor, Tensor]]:
        """limits() for best_frac: what the outputs `part` of a linear layer can reach, given its multipliers."""
        layer, in_frac = self.network.effective(name), self.fracs[self.network.input_of(name)]

        def at(frac: int) -> tuple[Tensor, Tensor]:
            multiplier = fold_linear(layer, Place(in_frac, torch.full_like(largest, frac), largest)).multiplier[part]
            return -multiplier, multiplier - 1

        return at

    def linear(self, name: str, out: Tensor) -> None:
        """Frac of a linear layer from its outputs [..., N], what folds into it included."""
        largest = torch.full((out.shape[-1],), 127.0)
        self.fracs[name] = best_frac(out, self.limits(name, largest, slice(None)))

    def layernorm(self, name: str, out: Tensor) -> None:
        """Frac of a LayerNorm's output."""
        self.fracs[name] = min(best_frac(out), layernorm_frac(self.network.layer(name)))

    def embedding(self) -> None:
        """Fracs of the stem, of the patch embedding, and of class token and positions."""
        for index in range(len(self.student.architecture.stem)):
            stage = f"{STAGE}.{index}"
            self.linear(f"{stage}.conv", self.seen[f"{stage}.bn.act.in"].permute(0, 2, 3, 1))
            self.fracs[f"{stage}.act"] = best_frac(self.seen[f"{stage}.bn.act.out"])
        self.linear("patch_embed.proj", self.seen["patch_embed.proj.out"].permute(0, 2, 3, 1))
        self.fracs["cls_token"] = best_frac(class_token(self.vit).detach())
        self.fracs["pos_embed"] = best_frac(positions(self.vit).detach())

    def attention(self, name: str) -> None:
        """Fracs of q, k, v, of the scores and of the attention's output."""
        sizes = self.student.architecture
        width, heads = sizes.embed_dim, sizes.num_heads
        largest = qkv_limits(width, width // heads)
        qkv = self.seen[f"{name}.qkv.out"]
        for index, part in enumerate("qkv"):
            where = slice(index * width, (index + 1) * width)
            self.fracs[f"{name}.{part}"] = best_frac(qkv[..., where], self.limits(f"{name}.qkv", largest, where))
        q, k, _ = qkv.unflatten(-1, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
        sum_frac = self.fracs[f"{name}.q"] + self.fracs[f"{name}.k"]
        score_frac = best_frac(q @ k.transpose(-1, -2))
        self.fracs[f"{name}.scores"] = min(max(score_frac, sum_frac - 15), sum_frac)
        # The multiplier of SPEC 7.5 takes up to half the range away.
        out_frac = best_frac(self.seen[f"{name}.proj.in"], lambda frac: (-96.0, 95.0))
        value_frac = self.fracs[f"{name}.v"]
        self.fracs[name] = min(max(out_frac, value_frac - 1), value_frac + 6)

    def residual(self, branches: list[str]) -> None:
        """Frac of the residual stream, and those of its branches brought within the shift 0..8 of SPEC 5.1."""
        blocks = range(self.student.architecture.depth)
        stream = [self.seen[f"blocks.{i}.{side}"] for i in blocks for side in ("in", "out")]
        largest = max(x.abs().max().item() for x in stream)
        finest = min(self.fracs[name] for name in branches) + 8
        self.fracs["residual"] = min(math.floor(math.log2(32767 / (RESIDUAL_HEADROOM * largest))), finest)
        for name in branches:
            self.fracs[name] = min(self.fracs[name], self.fracs["residual"])

    def run(self) -> dict[str, int]:
        """All fracs."""
        fracs, seen = self.fracs, self.seen
        self.embedding()
        branches = ["cls_token", "pos_embed", "patch_embed.proj"]
        for index in range(self.student.architecture.depth):
            block = f"blocks.{index}"
            self.layernorm(f"{block}.norm1", seen[f"{block}.norm1.out"])
            self.attention(f"{block}.attn")
            self.linear(f"{block}.attn.proj", seen[f"{block}.ls1.out"])
            self.layernorm(f"{block}.norm2", seen[f"{block}.norm2.out"])
            self.linear(f"{block}.mlp.fc1", seen[f"{block}.mlp.fc1.out"])
            fracs[f"{block}.mlp.act"] = best_frac(seen[f"{block}.mlp.act.out"])
            self.linear(f"{block}.mlp.fc2", seen[f"{block}.ls2.out"])
            branches += [f"{block}.attn.proj", f"{block}.mlp.fc2"]
        self.residual(branches)
        self.layernorm("norm", seen["norm.out"][:, 0])
        fracs["head"] = head_frac(self.network.layer("head"), fracs["norm"])
        return fracs


def calibrate(student: Student, images: Tensor) -> None:
    """Fill `student.fracs` from uint8 pictures [count, height, width, channels]; it computes in integers from then on.

    Raises TrainerError that names a layer which SPEC has no form for; whatever is raised, the student keeps its fracs.
    """
    before = student.fracs
    try:
        Calibration(student, images).run()
    except BaseException:
        student.fracs = before
        raise
