# SPDX-License-Identifier: MIT
"""Pictures in memory. Augmentation shifts and mirrors them, so that every variant has a number."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.data.base import Batch, Pictures, epoch_generator


@dataclass(frozen=True, eq=False)
class MemoryPictures(Pictures):
    """images: uint8 [count, size, size, channels].

    shift: largest shift in pixels, along both axes and in both directions; mirrored: whether half of the pictures are
    mirrored.
    """

    images: Tensor
    targets: Tensor
    labels: tuple[str, ...]
    shift: int = 2
    mirrored: bool = True
    name: str = "pictures"

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def size(self) -> int:  # type: ignore[override] # read-only
        """Side of a picture."""
        return self.images.shape[1]

    @property
    def channels(self) -> int:  # type: ignore[override] # read-only
        """1 (grey) or 3."""
        return self.images.shape[3]

    @property
    def variants(self) -> int:  # type: ignore[override] # read-only
        """Number of shifts, times two if pictures are mirrored."""
        return (2 * self.shift + 1) ** 2 * (1 + self.mirrored)

    def batches(
        self, batch: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """See Pictures."""
        generator = epoch_generator(seed, epoch)
        order = torch.randperm(len(self), generator=generator)
        keys = torch.arange(len(self)) * self.variants
        keys += torch.randint(self.variants, keys.shape, generator=generator)
        for indices in self.chosen(order, batch, start, rank, world):
            yield Batch(self.augmented(keys[indices]), self.targets[indices], keys[indices])

    def augmented(self, keys: Tensor) -> Tensor:
        """See Pictures; borders are filled with zeros."""
        index, variant = keys // self.variants, keys % self.variants
        if self.mirrored:
            mirrored, variant = variant % 2 == 1, variant // 2
        else:
            mirrored = torch.zeros_like(variant, dtype=torch.bool)
        positions, line = 2 * self.shift + 1, torch.arange(self.size)
        rows = (variant // positions)[:, None] + line
        columns = (variant % positions)[:, None] + torch.where(mirrored[:, None], line.flip(0), line)
        padded = torch.nn.functional.pad(self.images[index], (0, 0, *[self.shift] * 4))
        return padded[torch.arange(len(keys))[:, None, None], rows[:, :, None], columns[:, None, :]]

    def ordered(self, batch: int) -> Iterator[Batch]:
        """See Pictures; a picture of the right size stays as it is (SPEC 3.4)."""
        for images, targets in zip(self.images.split(batch), self.targets.split(batch), strict=True):
            yield Batch(images, targets)

    def inventory(self) -> dict[str, str]:
        """See Pictures: one part, all pictures with their classes."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.targets):
            digest.update(tensor.contiguous().numpy())
        return {self.name: digest.hexdigest()}

    def picked(self, indices: Sequence[int]) -> "MemoryPictures":
        """See Pictures."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        return replace(self, images=self.images[chosen], targets=self.targets[chosen])

    def subset(self, start: int | None, stop: int | None) -> "MemoryPictures":
        """See Pictures; shares memory."""
        return replace(self, images=self.images[start:stop], targets=self.targets[start:stop])
