# SPDX-License-Identifier: MIT
"""Small untrained students with sizes and weights as unpleasant as the format allows."""

import torch

from trainer.calibrate import calibrate
from trainer.student import Architecture, Student


def small(name: str, **sizes: int) -> Architecture:
    """An architecture for grey pictures of 28 x 28."""
    return Architecture(name=name, img_size=28, in_chans=1, **sizes)


# Nothing is a multiple of 16 or 5.
ODD = small("odd", patch_size=14, num_classes=7, embed_dim=33, depth=2, num_heads=3, mlp_hidden=17)
# One token beside the class token, heads of width 1, one class.
SINGLE = small("single", patch_size=28, num_classes=1, embed_dim=4, depth=1, num_heads=4, mlp_hidden=1)
# One wide head: the multipliers of q are bounded by SPEC 7.7.
WIDE = small("wide", patch_size=4, num_classes=10, embed_dim=128, depth=1, num_heads=1, mlp_hidden=160)
ARCHITECTURES = (ODD, SINGLE, WIDE)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """uint8 [count, 28, 28]: blobs, noise, black and white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 1, 7, 7), generator=generator, dtype=torch.uint8).float()
    images = torch.nn.functional.interpolate(coarse, 28, mode="bilinear")[:, 0].to(torch.uint8)
    images[::7] = torch.randint(0, 256, images[::7].shape, generator=generator, dtype=torch.uint8)
    images[0], images[-1] = 0, 255
    return images


def untrained(architecture: Architecture, seed: int = 0) -> Student:
    """A student whose weights, scales, gammas, betas and biases all vary, not calibrated."""
    torch.manual_seed(seed)
    student = Student(architecture, 0.286, 0.353)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.exp2(torch.randn(len(parameter)).view(-1, *[1] * (parameter.ndim - 1))))
            else:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return student.eval()


def calibrated(architecture: Architecture, seed: int = 0) -> Student:
    """The same, calibrated on `pictures`."""
    student = untrained(architecture, seed)
    calibrate(student, pictures(24, seed))
    return student
