# SPDX-License-Identifier: MIT
"""Choose the static power-of-two scale of every activation from a few training pictures."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.integer.attention import qkv_limits
from trainer.integer.head import head_frac
from trainer.integer.layernorm import layernorm_frac
from trainer.integer.linear import Place, fold_linear
from trainer.integer.network import IntegerNetwork
from trainer.integer.operations import LAST_NORM, RESIDUAL, Kind, Operation, Walker
from trainer.model.student import FloatArithmetic, Student

CANDIDATES = range(-4, 13)
RESIDUAL_HEADROOM = 2.0  # pictures beyond the calibration set may exceed its largest value by this factor


def squared_error(x: Tensor, frac: int, low: Tensor | float, high: Tensor | float) -> float:
    """Mean squared error of rounding x to integers of `frac` clipped to low..high."""
    unit = 2.0**frac
    restored = torch.minimum(torch.maximum(torch.round(x * unit), torch.as_tensor(low)), torch.as_tensor(high)) / unit
    return (restored - x).square().mean().item()


def best_frac(x: Tensor, limits: Callable[[int], tuple[Tensor | float, Tensor | float]] | None = None) -> int:
    """The frac with the least squared error on x; limits(frac) gives the range, int8's by default."""
    limits = limits or (lambda frac: (-128.0, 127.0))
    return min(CANDIDATES, key=lambda frac: squared_error(x, frac, *limits(frac)))


class Recording:
    """Float activations of a student on uint8 pictures [count, height, width, channels].

    seen: what enters and leaves each of timm's modules, under its name and ".in" or ".out".
    """

    def __init__(self, student: Student, images: Tensor):
        self.network = IntegerNetwork.of(student, {})
        self.input = student.pixels.normalize(images).permute(0, 2, 3, 1)
        self.seen: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(self.keeper(name)) for name, module in student.vit.named_modules() if name
        ]
        student.eval()
        try:
            with torch.no_grad():
                FloatArithmetic(student.vit, student.pixels)(images)
        finally:
            for hook in hooks:
                hook.remove()

    def keeper(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        """The hook of a module."""

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.seen[f"{name}.in"], self.seen[f"{name}.out"] = inputs[0].detach(), output.detach()

        return keep

    def output(self, operation: Operation) -> Tensor:
        """The float values that an operation's output represents, with SPEC's dimensions."""
        if operation.kind == Kind.INPUT:
            return self.input
        if operation.kind == Kind.EMBEDDING:
            return self.network.embedding(operation.name).detach()
        x = self.seen[operation.recorded]
        if operation.name == LAST_NORM:
            return x[:, 0]
        return x.permute(0, 2, 3, 1) if x.ndim == 4 else x

    def qkv(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v [count, heads, T, d] of the attention `name`."""
        return self.seen[f"{name}.qkv.out"].unflatten(-1, (3, self.network.sizes.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def scores(self, name: str) -> Tensor:
        """q . k of the attention `name`, [count, heads, T, T]."""
        q, k, _ = self.qkv(name)
        return q @ k.transpose(-1, -2)

    def int8(self, operation: Operation) -> Iterator[tuple[str, Tensor]]:
        """Every int8 value of an operation with a frac of its own: its name in `fracs`, and the float values."""
        name = operation.name
        if operation.kind in (Kind.RESIDUAL_START, Kind.RESIDUAL_ADD, Kind.HEAD) or name.endswith(".qkv"):
            return
        if operation.kind == Kind.ATTENTION:
            yield from ((f"{name}.{part}", x) for part, x in zip("qkv", self.qkv(name), strict=True))
            yield f"{name}.scores", self.scores(name)
        yield name, self.output(operation)


class Calibration(Walker):
    """Fills `fracs` operation by operation, in the order of the forward pass."""

    def __init__(self, student: Student, images: Tensor):
        if student.calibrated:
            raise TrainerError("the student is calibrated already")
        self.recording, self.pixels = Recording(student, images), student.pixels
        # The network reads the fracs that are being filled in.
        self.fracs: dict[str, int] = {}
        self.network = IntegerNetwork.of(student, self.fracs)
        self.branches: list[str] = []

    def limits(self, name: str, largest: Tensor, part: slice) -> Callable[[int], tuple[Tensor, Tensor]]:
        """limits() for best_frac: what the outputs `part` of a linear layer can reach, given its multipliers."""
        layer, in_frac = self.network.effective(name), self.fracs[self.network.inputs[name]]

        def at(frac: int) -> tuple[Tensor, Tensor]:
            multiplier = fold_linear(layer, Place(in_frac, torch.full_like(largest, frac), largest)).multiplier[part]
            return -multiplier, multiplier - 1

        return at

    def input(self, operation: Operation) -> None:
        """From all values that a pixel can have."""
        levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, -1, -1, len(self.pixels.mean))
        self.fracs["input"] = best_frac(self.pixels.normalize(levels))

    def linear(self, operation: Operation) -> None:
        """One frac, or those of q, k and v."""
        name, out = operation.name, self.recording.output(operation)
        if name.endswith(".qkv"):
            self.qkv(name, out)
        else:
            self.outputs(name, out)

    def outputs(self, name: str, out: Tensor) -> None:
        """The frac of a layer from its outputs [..., N], which include what folds into it."""
        largest = torch.full((out.shape[-1],), 127.0)
        self.fracs[name] = best_frac(out, self.limits(name, largest, slice(None)))

    def qkv(self, name: str, out: Tensor) -> None:
        """The fracs of q, k and v from [..., 3 D]."""
        sizes = self.network.sizes
        largest = qkv_limits(sizes.embed_dim, sizes.embed_dim // sizes.num_heads)
        for index, part in enumerate("qkv"):
            where = slice(index * sizes.embed_dim, (index + 1) * sizes.embed_dim)
            frac = best_frac(out[..., where], self.limits(name, largest, where))
            self.fracs[f"{name.removesuffix('qkv')}{part}"] = frac

    def convolution(self, operation: Operation) -> None:
        """As a linear layer."""
        self.outputs(operation.name, self.recording.output(operation))

    def embedding(self, operation: Operation) -> None:
        """From the parameter."""
        self.fracs[operation.name] = best_frac(self.recording.output(operation))

    def lookup(self, operation: Operation) -> None:
        """From the outputs."""
        self.fracs[operation.name] = best_frac(self.recording.output(operation))

    def layernorm(self, operation: Operation) -> None:
        """From the outputs, as far as the gain of SPEC 6 goes."""
        best = best_frac(self.recording.output(operation))
        self.fracs[operation.name] = min(best, layernorm_frac(self.network.layer(operation.name)))

    def attention(self, operation: Operation) -> None:
        """The fracs of the scores and of the output."""
        name, fracs = operation.name, self.fracs
        sum_frac = fracs[f"{name}.q"] + fracs[f"{name}.k"]
        score_frac = best_frac(self.recording.scores(name))
        fracs[f"{name}.scores"] = min(max(score_frac, sum_frac - 15), sum_frac)
        # The multiplier of SPEC 7.5 may halve the range.
        out_frac = best_frac(self.recording.output(operation), lambda frac: (-96.0, 95.0))
        fracs[name] = min(max(out_frac, fracs[f"{name}.v"] - 1), fracs[f"{name}.v"] + 6)

    def residual_start(self, operation: Operation) -> None:
        """Its branches; their shifts are known once the frac of the stream is."""
        self.branches += operation.sources

    def residual_add(self, operation: Operation) -> None:
        """As residual_start."""
        self.branches += operation.sources

    def head(self, operation: Operation) -> None:
        """The finest frac that its multipliers allow."""
        self.fracs["head"] = head_frac(self.network.layer("head"), self.fracs[LAST_NORM])

    def residual(self) -> None:
        """The frac of the residual stream, and those of its branches brought within the shift 0..8 of SPEC 5.1."""
        blocks = range(self.network.sizes.depth)
        stream = [self.recording.seen[f"blocks.{i}.{side}"] for i in blocks for side in ("in", "out")]
        largest = max(x.abs().max().item() for x in stream)
        finest = min(self.fracs[name] for name in self.branches) + 8
        self.fracs[RESIDUAL] = min(math.floor(math.log2(32767 / (RESIDUAL_HEADROOM * largest))), finest)
        for name in self.branches:
            self.fracs[name] = min(self.fracs[name], self.fracs[RESIDUAL])


def calibrate(student: Student, images: Tensor) -> None:
    """Choose all fracs from uint8 pictures [count, height, width, channels]; the student then computes in integers.

    Raises TrainerError that names a layer which SPEC has no form for; whatever is raised, the student stays as it is.
    """
    calibration = Calibration(student, images)
    calibration.walk(calibration.network.operations)
    calibration.residual()
    student.arithmetic = calibration.network
