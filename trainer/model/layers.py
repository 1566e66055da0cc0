# SPDX-License-Identifier: MIT
"""The paper's three ternary layers as trainable modules: latent float weights, ternary in every forward."""

from dataclasses import dataclass, field, replace

import torch
from timm.layers import BatchNormAct2d, LayerNorm, LayerScale
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import TrainerError
from trainer.model.quantize import LearnedScale, Rule, learned_trits, straight_through, ternary_weight

ACTIVATIONS = ("static", "per_token")


@dataclass(frozen=True)
class TernarySettings:
    """What becomes ternary, and how. Only a model with everything ternary and static scales can be exported.

    rule: for all weights; layernorm, patch_embed (the stem included), head: False leaves these in full precision;
    activations: "static" (float until calibration, then SPEC's fixed scales) or "per_token" (int8 with a scale for
    each token, computed on the fly, for ablations).
    """

    rule: Rule = field(default_factory=Rule)
    layernorm: bool = True
    patch_embed: bool = True
    head: bool = True
    activations: str = "static"

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATIONS:
            raise TrainerError(f"activations is {self.activations!r}, must be one of {', '.join(ACTIVATIONS)}")

    @property
    def complete(self) -> bool:
        """Whether SPEC has a form for all of it."""
        return self.layernorm and self.patch_embed and self.head and self.activations == "static"


def per_token_int8(x: Tensor) -> Tensor:
    """x [..., K] rounded to 127 steps of each row's largest magnitude, with the gradient passed straight through."""
    step = x.detach().abs().amax(-1, keepdim=True).clamp(min=1e-8) / 127
    return straight_through(x, torch.round(x / step) * step)


class Ternary(nn.Module):
    """Base of the ternary layers; `latent()` gives their weights as one matrix with a scale for each row."""

    rule = Rule()
    full_precision = False  # True before training ternarizes
    per_token = False

    def latent(self) -> Tensor:
        """The latent weights as a matrix [channels, n], in the order that SPEC packs."""
        raise NotImplementedError

    def start_learned_scale(self) -> None:
        """Make the scales ([channels, 1], or [1, 1] for a whole tensor) a parameter with the rule's values."""
        with torch.no_grad():
            scale = self.rule(self.latent())[1]
            scale = scale if self.rule.per == "channel" else scale[:1]
            if not hasattr(self, "scale"):
                self.scale = nn.Parameter(torch.empty_like(scale))
            self.scale.copy_(scale)

    def trits(self) -> tuple[Tensor, Tensor]:
        """Trits [channels, n] and scales [channels], without gradient."""
        with torch.no_grad():
            latent = self.latent()
            if self.rule.learned:
                scale = self.scale.abs().expand(len(latent), 1)
                return learned_trits(latent, scale), scale[:, 0]
            trits, scale = self.rule(latent)
            return trits, scale[:, 0]

    def ternary_latent(self) -> Tensor:
        """scale * trit [channels, n] with gradients to the latent weights (and to learned scales)."""
        latent = self.latent()
        if self.full_precision:
            return latent
        if self.rule.learned:
            return LearnedScale.apply(latent, self.scale)
        return ternary_weight(latent, self.rule)


class TernaryBitLinear(Ternary, nn.Linear):
    """nn.Linear whose weight [N, K] is ternary with one scale per output."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., K]; returns float [..., N]."""
        if self.per_token:
            x = per_token_int8(x)
        return functional.linear(x, self.ternary_latent(), self.bias)

    def latent(self) -> Tensor:
        """[N, K]."""
        return self.weight

    def as_weight(self, matrix: Tensor) -> Tensor:
        """[N, K]."""
        return matrix


class TernaryBitConv2d(Ternary, nn.Conv2d):
    """nn.Conv2d whose weight is ternary with one scale per output channel."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [batch, channels, height, width]."""
        if self.per_token:
            x = per_token_int8(x.flatten(1)).view_as(x)
        return self._conv_forward(x, self.as_weight(self.ternary_latent()), self.bias)

    def latent(self) -> Tensor:
        """[N, K], K in the order (ky, kx, channel) of SPEC 4.6."""
        return self.weight.permute(0, 2, 3, 1).flatten(1)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """[N, K] to [N, channels, height, width]."""
        channels, *kernel = self.weight.shape[1:]
        return matrix.view(-1, *kernel, channels).permute(0, 3, 1, 2)


class TernaryLayerNorm(Ternary, LayerNorm):
    """LayerNorm over the last dimension whose gamma and beta are ternary with one scale each."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., D]; returns the same shape."""
        gamma, beta = self.ternary_latent()
        return functional.layer_norm(x, self.normalized_shape, gamma, beta, self.eps)

    def latent(self) -> Tensor:
        """[2, D]: gamma and beta."""
        return torch.stack((self.weight, self.bias))


def ternary_modules(model: nn.Module) -> dict[str, Ternary]:
    """All ternary layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Ternary)}


def _ternary_twin(module: nn.Module) -> Ternary | None:
    """A ternary layer of a leaf module's shape, or None when the module has nothing to ternarize."""
    if isinstance(module, nn.Linear):
        return TernaryBitLinear(module.in_features, module.out_features, bias=module.bias is not None)
    if isinstance(module, nn.Conv2d):
        if module.groups != 1 or module.dilation != (1, 1):
            raise TrainerError("a convolution with groups or dilation has no ternary form")
        shape = module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding
        return TernaryBitConv2d(*shape, bias=module.bias is not None)
    if isinstance(module, nn.LayerNorm):
        if module.weight is None or module.bias is None:
            raise TrainerError("a LayerNorm without gamma and beta has no ternary form")
        return TernaryLayerNorm(module.normalized_shape, module.eps)
    # LayerScale and a convolution's BatchNorm fold into the layer before them at export.
    folds = isinstance(module, LayerScale | BatchNormAct2d)
    if not list(module.children()) and list(module.parameters()) and not folds:
        raise TrainerError(f"{type(module).__name__} has weights but no ternary form")
    return None


def _stays_in_full_precision(name: str, module: nn.Module, settings: TernarySettings) -> bool:
    part = name.split(".")[0]
    return (
        (part == "patch_embed" and not settings.patch_embed)
        or (part == "head" and not settings.head)
        or (isinstance(module, nn.LayerNorm) and not settings.layernorm)
    )


def convert_to_ternary(model: nn.Module, settings: TernarySettings | None = None, prefix: str = "") -> None:
    """Replace every linear layer, convolution and LayerNorm of a timm model in place, under timm's names.

    Raises TrainerError that names a layer which has weights but no ternary form.
    """
    settings = settings or TernarySettings()
    for name, child in model.named_children():
        path = prefix + name
        if _stays_in_full_precision(path, child, settings):
            continue
        try:
            twin = _ternary_twin(child)
        except TrainerError as error:
            raise TrainerError(f"{path}: {error}") from None
        if twin is None:
            convert_to_ternary(child, settings, f"{path}.")
            continue
        twin.load_state_dict(child.state_dict())
        twin.rule, twin.per_token = settings.rule, settings.activations == "per_token"
        if isinstance(twin, TernaryLayerNorm):
            twin.rule = replace(settings.rule, per="channel")  # gamma and beta are tensors of their own
        if twin.rule.learned:
            twin.start_learned_scale()
        setattr(model, name, twin)


def set_full_precision(model: nn.Module, full_precision: bool) -> None:
    """Switch ternarization off (True) or on (False) in every ternary layer."""
    for module in ternary_modules(model).values():
        module.full_precision = full_precision


def start_learned_scales(model: nn.Module) -> None:
    """Set learned scales to what the rule gives for the current weights."""
    for module in ternary_modules(model).values():
        if module.rule.learned:
            module.start_learned_scale()


def dampen(model: nn.Module, part: float) -> None:
    """Move latent matrices towards their ternary values, by `part` (0 to 1) of the distance.

    Based on Nagel et al., arXiv 2203.08506, who add the distance to the loss. Gammas and betas do not move.
    """
    with torch.no_grad():
        for module in ternary_modules(model).values():
            if not (module.full_precision or isinstance(module, TernaryLayerNorm)):
                trits, scale = module.trits()
                module.weight.lerp_(module.as_weight(trits * scale[:, None]), part)
