# SPDX-License-Identifier: MIT
"""Fully ternary vision transformers: open a model file, call its layers, change them.

from ftervit import VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
print(model.predict(read_image("images/0_t-shirt_top.pgm")))
"""

try:
    import ternary
except ImportError as error:
    ternary, problem = None, str(error)  # type: ignore[assignment]
if ternary is None:
    raise ImportError(
        "ftervit needs firmware with the C module 'ternary': flash one that has it, see docs/board.md (%s)" % problem
    )

from ftervit.image import Image, read_image
from ftervit.layers import (
    Activation,
    Attention,
    Block,
    ConvAct,
    Int8Head,
    Mlp,
    PatchEmbed,
    Softmax,
    TernaryBitConv2d,
    TernaryBitLinear,
    TernaryHead,
    TernaryLayerNorm,
)
from ftervit.vit import VisionTransformer

__all__ = (
    "Activation",
    "Attention",
    "Block",
    "ConvAct",
    "Image",
    "Int8Head",
    "Learner",
    "Mlp",
    "ModelFile",
    "PatchEmbed",
    "Softmax",
    "TernaryBitConv2d",
    "TernaryBitLinear",
    "TernaryHead",
    "TernaryLayerNorm",
    "VisionTransformer",
    "read_image",
)


def __getattr__(name):
    """What only loading a model, or teaching, takes (7 KB of a board's heap): imported when it is first used."""
    if name == "Learner":
        from ftervit.learner import Learner

        return Learner
    if name == "ModelFile":
        from ftervit.modelfile import ModelFile

        return ModelFile
    if name == "architecture":
        import ftervit.architecture

        return ftervit.architecture
    if name == "modelfile":
        import ftervit.modelfile

        return ftervit.modelfile
    if name == "plan":
        import ftervit.plan

        return ftervit.plan
    raise AttributeError("module 'ftervit' has no attribute '%s'" % name)
