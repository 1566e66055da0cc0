# SPDX-License-Identifier: MIT
"""Choose the static power-of-two scale of every activation from a few training pictures."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.integer import fold_linear, head_frac, input_of, qkv_limits
from trainer.student import Student

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


def output_limits(layer: nn.Module, in_frac: int, largest: Tensor, part: slice) -> Callable[[int], tuple]:
    """limits() for best_frac: what the outputs `part` of a layer can reach at a frac, given its multipliers."""

    def limits(frac: int) -> tuple[Tensor, Tensor]:
        outputs = len(largest)
        folded = fold_linear(layer, in_frac, torch.full((outputs,), float(frac)), largest)
        return -folded.multiplier[part], folded.multiplier[part] - 1

    return limits


class Calibration:
    """Fills `fracs` layer by layer, in the order of the forward pass."""

    def __init__(self, student: Student, images: Tensor):
        if student.fracs:
            raise TrainerError("the student is calibrated already")
        self.seen = record(student, images)
        self.student, self.vit = student, student.vit
        self.fracs: dict[str, int] = {}
        pixels = torch.arange(256) / 255
        self.fracs["input"] = best_frac((pixels - student.mean) / student.std)

    def linear(self, name: str) -> None:
        """Frac of a linear layer's output."""
        layer = self.vit.get_submodule(name)
        largest = torch.full((len(layer.weight),), 127.0)
        out = self.seen[f"{name}.out"]
        if name == "patch_embed.proj":
            out = out.flatten(2).transpose(1, 2)
        self.fracs[name] = best_frac(out, output_limits(layer, self.fracs[input_of(name)], largest, slice(None)))

    def attention(self, name: str) -> None:
        """Fracs of q, k, v, of the scores and of the attention's output."""
        attn, sizes = self.vit.get_submodule(name), self.student.architecture
        width, heads = sizes.embed_dim, sizes.num_heads
        largest = qkv_limits(width, width // heads)
        qkv = self.seen[f"{name}.qkv.out"]
        in_frac = self.fracs[input_of(f"{name}.qkv")]
        for index, part in enumerate("qkv"):
            where = slice(index * width, (index + 1) * width)
            limits = output_limits(attn.qkv, in_frac, largest, where)
            self.fracs[f"{name}.{part}"] = best_frac(qkv[..., where], limits)
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
        fracs, vit = self.fracs, self.vit
        fracs["cls_token"] = best_frac(vit.cls_token.detach())
        fracs["pos_embed"] = best_frac(vit.pos_embed.detach())
        self.linear("patch_embed.proj")
        branches = ["cls_token", "pos_embed", "patch_embed.proj"]
        for index in range(self.student.architecture.depth):
            block = f"blocks.{index}"
            fracs[f"{block}.norm1"] = best_frac(self.seen[f"{block}.norm1.out"])
            self.attention(f"{block}.attn")
            self.linear(f"{block}.attn.proj")
            fracs[f"{block}.norm2"] = best_frac(self.seen[f"{block}.norm2.out"])
            self.linear(f"{block}.mlp.fc1")
            fracs[f"{block}.mlp.act"] = best_frac(self.seen[f"{block}.mlp.act.out"])
            self.linear(f"{block}.mlp.fc2")
            branches += [f"{block}.attn.proj", f"{block}.mlp.fc2"]
        self.residual(branches)
        fracs["norm"] = best_frac(self.seen["norm.out"][:, 0])
        fracs["head"] = head_frac(vit.head, fracs["norm"])
        return fracs


def calibrate(student: Student, images: Tensor) -> None:
    """Fill `student.fracs` from uint8 pictures [count, height, width]; from then on it computes in integers."""
    student.fracs = Calibration(student, images).run()
