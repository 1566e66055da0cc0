# SPDX-License-Identifier: MIT
"""What people should know about their pictures before a training starts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from trainer.data.base import Pictures

FEW = 10  # pictures of a class: fewer teach little
UNEVEN = 5  # times as many pictures of one class as of another
NAMED = 3


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", .." if len(names) > NAMED else "")


def advice(parts: Mapping[str, Pictures]) -> list[str]:
    """Lines about few pictures, uneven classes, and equal pictures; parts: by name, the first is for training."""
    training = next(iter(parts.values()))
    counts = Counter({label: 0 for label in training.labels})
    counts.update(training.labels[target] for target in training.targets.tolist())
    lines = []
    few = [f"{label} ({count})" for label, count in counts.items() if count < FEW]
    if few:
        lines.append(f"very few pictures to learn from: {listed(few)}; {FEW} or more of a class help a lot")
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if smallest and largest > UNEVEN * smallest:
        lines.append(
            f"uneven: {largest} pictures of {most}, {smallest} of {least}; what is rare is recognised less often"
        )
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
