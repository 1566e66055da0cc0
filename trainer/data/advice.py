# SPDX-License-Identifier: MIT
"""What people should know about their pictures before a training starts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from trainer.data.base import Pictures
from trainer.data.settings import UNEVEN

FEW = 10  # pictures of a class: fewer teach little
NAMED = 3


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", .." if len(names) > NAMED else "")


def counted(pictures: Pictures) -> Counter[str]:
    """Pictures of each class."""
    counts = Counter({label: 0 for label in pictures.labels})
    counts.update(pictures.labels[target] for target in pictures.targets.tolist())
    return counts


def unevenness(training: Pictures) -> str:
    """A line about classes with far more pictures than others, and what is done about it; "" if there are none."""
    counts = counted(training).most_common()
    (most, largest), (least, smallest) = counts[0], counts[-1]
    if largest <= UNEVEN * smallest:
        return ""
    balanced = "classes weigh the same in training (data.balance=off: pictures do)"
    done = balanced if training.balanced else "what is rare is recognised less often (data.balance)"
    return f"uneven: {largest} pictures of {most}, {smallest} of {least}; {done}"


def advice(parts: Mapping[str, Pictures]) -> list[str]:
    """Lines about few pictures, uneven classes, and equal pictures; parts: by name, the first is for training."""
    training = next(iter(parts.values()))
    lines = []
    few = [f"{label} ({count})" for label, count in counted(training).items() if count < FEW]
    if few:
        lines.append(f"very few pictures to learn from: {listed(few)}; {FEW} or more of a class help a lot")
    if uneven := unevenness(training):
        lines.append(uneven)
    return lines + equal_pictures({name: part.inventory() for name, part in parts.items()})


def equal_pictures(inventories: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Lines about files with equal content in two parts, or in two classes of one."""
    places = defaultdict(list)
    for part, inventory in inventories.items():
        for file, entry in inventory.items():
            label, _, digest = entry.rpartition(" ")
            places[digest].append((part, label, file))
    lines = []
    for why, differs in (("two parts, so the figures look better than they are", 0), ("two classes", 1)):
        groups = [group for group in places.values() if len({entry[differs] for entry in group}) > 1]
        if groups:
            pairs = [" = ".join(dict.fromkeys(file for _, _, file in group)) for group in groups]
            verb = "picture is" if len(groups) == 1 else "pictures are"
            lines.append(f"{len(groups)} {verb} in {why}: {listed(pairs)}")
    return lines
