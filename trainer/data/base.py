# SPDX-License-Identifier: MIT
"""The interface of every set of pictures: training batches, pictures in order, subsets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainer.errors import TrainerError

STATISTICS_PICTURES = 5000
SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """images: uint8 [batch, size, size, channels] (SPEC 3.1); labels: int64 [batch].

    keys: int64 [batch], each identifies a picture and its augmentation; None where augmentation is unlimited.
    """

    images: Tensor
    labels: Tensor
    keys: Tensor | None = None


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random number generator of one epoch."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


class Pictures(ABC):
    """Labelled square pictures of one size.

    labels: names of the classes; targets: int64 [count], the class of each picture; name: for error messages;
    variants: number of augmented versions of a picture, None if unlimited.
    """

    labels: tuple[str, ...]
    targets: Tensor
    size: int
    channels: int
    name: str
    variants: int | None

    def __len__(self) -> int:
        return len(self.targets)

    def steps(self, batch: int) -> int:
        """Training batches of an epoch; an incomplete last one is dropped."""
        return len(self) // batch

    @property
    def balanced(self) -> bool:
        """Whether training batches have the pictures of every class equally often."""
        return False

    def places(self, generator: torch.Generator) -> Tensor:
        """The picture at each place of an epoch, before they are shuffled: int64 [count], each picture once, or with
        `balanced` as many of each class."""
        return drawn_evenly(self.targets, generator) if self.balanced else torch.arange(len(self))

    @abstractmethod
    def batches(
        self, batch: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The augmented training batches of an epoch from step `start` on, shuffled; see `places`.

        batch: pictures of a step in all `world` processes together; process `rank` gets rank, rank + world, ... of
        them. Order and augmentation depend on seed, epoch and a picture's index alone: any number of processes,
        workers or resumptions sees the same pictures.
        """

    @abstractmethod
    def ordered(self, batch: int) -> Iterator[Batch]:
        """All pictures in order, not augmented, as the board would see them (SPEC 3.2 to 3.4)."""

    @abstractmethod
    def inventory(self) -> dict[str, str]:
        """What the set is made of: by name of each part, as a file, its label and the digest of its content.

        Two sets with equal inventories hold the same pictures with the same labels.
        """

    @abstractmethod
    def picked(self, indices: Sequence[int]) -> Self:
        """The pictures with these indices."""

    def augmented(self, keys: Tensor) -> Tensor:
        """uint8 [count, size, size, channels]: the pictures that `keys` (int64 [count]) identify.

        key = index * variants + variant, from 0 to len(self) * variants - 1.
        """
        raise TrainerError(f"{self.name}: unlimited augmentation, no keys")

    def subset(self, start: int | None, stop: int | None) -> Self:
        """The pictures of the slice start:stop."""
        return self.picked(range(len(self))[start:stop])

    def spread(self, count: int) -> Self:
        """Up to `count` evenly spaced pictures, so that pictures sorted by class give some of every class."""
        count = min(count, len(self))
        return self.picked([index * len(self) // count for index in range(count)])

    def split(self, validation: int) -> tuple[Self, Self]:
        """(training, validation): the last `validation` pictures are held out."""
        self.check_validation(validation, len(self) - 1)
        return self.subset(None, -validation), self.subset(-validation, None)

    def check_validation(self, validation: int, most: int) -> None:
        """Raise TrainerError unless `validation` is 1 to `most`."""
        if not 1 <= validation <= most:
            raise TrainerError(
                f"{self.name}: validation is {validation}, must be 1 to {most} of the {len(self)} pictures there are"
            )

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of pixel / 255, one per channel, over up to 5,000 pictures."""
        totals = torch.zeros(3, self.channels, dtype=torch.float64)
        for batch in self.spread(STATISTICS_PICTURES).ordered(500):
            pixels = batch.images.flatten(0, 2).double() / 255
            totals += torch.stack([torch.ones(self.channels) * len(pixels), pixels.sum(0), pixels.square().sum(0)])
        mean = totals[1] / totals[0]
        return mean.tolist(), (totals[2] / totals[0] - mean.square()).clamp(min=0).sqrt().tolist()

    def chosen(self, order: Tensor, batch: int, start: int, rank: int, world: int) -> Iterator[Tensor]:
        """Indices of each step of `batches`, int64 [about batch / world]; order: a permutation, int64 [count]."""
        if batch < world:
            raise TrainerError(f"batch is {batch}, must be at least {world}, a picture for each process")
        for step in range(start, self.steps(batch)):
            yield order[step * batch : (step + 1) * batch][rank::world]


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """Split `total` pictures over the classes in proportion to counts; at least one of each class remains.

    total is at most sum(counts) - len(counts).
    """
    shares = [count * total / sum(counts) for count in counts]
    result = [int(share) for share in shares]
    by_remainder = sorted(range(len(counts)), key=lambda i: (result[i] - shares[i], i))
    while sum(result) < total:
        for index in by_remainder:
            if sum(result) < total and result[index] < counts[index] - 1:
                result[index] += 1
    return result


def drawn_evenly(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Indices int64 [count] of as many pictures of every class as of any other, give or take one: of a large class a
    part, of a small one all of them, again and again. targets: int64 [count]."""
    classes = targets.unique().tolist()
    each, more = divmod(len(targets), max(len(classes), 1))
    found = [targets[:0]]
    # Which classes get one more changes from epoch to epoch.
    for rank, target in enumerate(torch.randperm(len(classes), generator=generator).tolist()):
        members, wanted = (targets == classes[target]).nonzero()[:, 0], each + (rank < more)
        for _ in range(0, wanted, len(members)):
            found.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
            wanted -= len(found[-1])
    return torch.cat(found)


def stratified(targets: Tensor, classes: int, count: int) -> Tensor:
    """A mask of `count` pictures to hold out, bool [pictures]: the same fraction of every class, at random with a fixed
    seed. targets: int64 [pictures]."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    held_out = torch.zeros(len(targets), dtype=torch.bool)
    for target, quota in enumerate(quotas(torch.bincount(targets, minlength=classes).tolist(), count)):
        members = (targets == target).nonzero()[:, 0]
        held_out[members[torch.randperm(len(members), generator=generator)[:quota]]] = True
    return held_out
