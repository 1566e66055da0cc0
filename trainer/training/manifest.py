# SPDX-License-Identifier: MIT
"""What a run is made from: digests of its settings, its pictures and its initial weights, kept with its checkpoints.

A folder whose checkpoints were made from anything else is refused with a line that names the difference.
"""

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.config import Config
from trainer.data import Pictures
from trainer.errors import TrainerError
from trainer.files import write_atomically, write_json
from trainer.paths import ROOT
from trainer.training.checkpoint import claim_checkpoint

PHASES = ("teacher", "control", "student", "recovery")  # none depends on a later one
SETTINGS, MANIFEST, PICTURES, LOCK = "settings.json", "manifest.json", "pictures.json.gz", "lock"
NAMED = 3  # changes that a message names
ADVICE = "--restart trains from scratch, another --run keeps both"

Beginning = Literal["resume", "adopt", "restart"]  # what a command does with the checkpoints that it finds


def checkpoint_path(directory: Path, name: str) -> Path:
    """Path of the state of the phase `name`."""
    return directory / f"{name}.pt"


def checkpoints(directory: Path) -> list[str]:
    """The phases whose checkpoints are in a folder."""
    return [name for name in PHASES if checkpoint_path(directory, name).exists()]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a run's folder against other trainings; TrainerError if another one holds it.

    The kernel releases the lock when this process ends, however it ends; processes that it starts do not inherit it.
    """
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115 - closed below, which releases the lock
    except OSError as error:
        raise TrainerError(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        try:
            # Not flock, as in host_sim: forked workers would inherit that and keep it after a kill of this process.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(20).strip() or "unknown"
            raise TrainerError(
                f"{directory}: another training (process {owner}) is running in it; wait for it or pass another --run"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def digest_of(values: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Inventory:
    """labels: names of the classes; training, validation: of Pictures.inventory."""

    labels: tuple[str, ...]
    training: dict[str, str]
    validation: dict[str, str]

    @classmethod
    def of(cls, training: Pictures, validation: Pictures) -> "Inventory":
        """The inventory of a run's pictures."""
        return cls(tuple(training.labels), training.inventory(), validation.inventory())

    @property
    def digest(self) -> str:
        """Of everything in it."""
        return digest_of(asdict(self))

    def write(self, path: Path) -> None:
        """Save it, so that later differences can be named."""
        write_atomically(gzip.compress(json.dumps(asdict(self)).encode(), mtime=0), path)

    @classmethod
    def read(cls, path: Path) -> "Inventory | None":
        """A saved inventory; None if it cannot be read."""
        try:
            values = json.loads(gzip.decompress(path.read_bytes()))
            return cls(tuple(values["labels"]), dict(values["training"]), dict(values["validation"]))
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError):
            return None

    def changes(self, now: "Inventory") -> list[str]:
        """The differences between then and `now`, in words."""
        found = []
        gone, new = (
            [n for n in one if n not in other] for one, other in ((self.labels, now.labels), (now.labels, self.labels))
        )
        found += [
            f"{'class' if len(names) == 1 else 'classes'} {listed(names)} {verb}"
            for names, verb in ((gone, "gone"), (new, "new"))
            if names
        ]
        if not found and self.labels != now.labels:
            found.append(f"order of classes {listed(now.labels)}")
        odd = {*gone, *new}
        before, after = self.parts(odd), now.parts(odd)
        both = sorted(before.keys() & after.keys())
        for verb, names in (
            ("added", sorted(after.keys() - before.keys())),
            ("removed", sorted(before.keys() - after.keys())),
            ("relabelled", [name for name in both if before[name][0] != after[name][0]]),
            ("replaced", [name for name in both if before[name][1] != after[name][1]]),
        ):
            if names:
                found.append(f"{len(names)} {verb} ({listed(names)})")
        return found or ["they are split in another way between training and validation"]

    def parts(self, without: set[str]) -> dict[str, tuple[str, str]]:
        """(label, digest) of each part by its name, without those of some classes."""
        parts = {}
        for entries in (self.validation, self.training):
            for name, entry in entries.items():
                label, _, digest = entry.rpartition(" ")
                if label not in without:
                    parts[name] = (label, digest)
        return parts


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", .." if len(names) > NAMED else "")


def settings_changes(before: Any, now: Any, name: str = "") -> list[str]:
    """The settings that differ, as "section.key was 1, is 2"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [c for key in keys for c in settings_changes(before.get(key), now.get(key), f"{name}.{key}".strip("."))]
    return [] if before == now else [f"{name} was {before!r}, is {now!r}"]


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, None without one."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trains_teacher(config: Config, directory: Path) -> bool:
    """Whether the run in `directory` has trained its teacher, or part of it.

    If so, it continues, even if the settings' teacher checkpoint has been written since.
    """
    trained = config.teacher is not None and config.teacher.training is not None
    return trained and checkpoint_path(directory, "teacher").exists()


def given_weights(config: Config, directory: Path) -> dict[str, str | None]:
    """Digests of the files of weights that a run begins with, None for one that is not there or not used."""
    named = [config.model.checkpoint, config.student.weights]
    teacher = config.teacher.checkpoint if config.teacher else ""
    if config.teacher:
        named.append(config.teacher.model.checkpoint)
    weights = {name: file_digest(ROOT / name) for name in named if name}
    if teacher:
        weights[teacher] = None if trains_teacher(config, directory) else file_digest(ROOT / teacher)
    return weights


@dataclass(frozen=True)
class Manifest:
    """Digests of what a run is made from. weights: by file; None for a teacher that the run trains itself."""

    settings: str
    pictures: str
    weights: dict[str, str | None] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of everything in it; checkpoints bear it."""
        return digest_of(asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Manifest | None":
        """The manifest of a run, None without one; TrainerError for one that is damaged."""
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text())
            digest = values.pop("digest")
            manifest = cls(values.pop("settings"), values.pop("pictures"), values.pop("weights"))
            if digest == manifest.digest and not values:
                return manifest
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise TrainerError(f"{path}: damaged, so what its checkpoints were made from is not known; {ADVICE}")

    def write(self, path: Path) -> None:
        """Keep it."""
        write_json({**asdict(self), "digest": self.digest}, path)


def forget(directory: Path) -> None:
    """Remove checkpoints, logs and notes of a run, in an order in which the rest stays consistent if interrupted."""
    for name in reversed(PHASES):
        for path in (checkpoint_path(directory, name), directory / f"{name}.jsonl"):
            path.unlink(missing_ok=True)
    for name in (MANIFEST, PICTURES, SETTINGS):
        (directory / name).unlink(missing_ok=True)


def begin(directory: Path, config: Config, inventory: Inventory, beginning: Beginning = "resume") -> Manifest:
    """The manifest of the run in `directory`, written there if the run begins; TrainerError if the checkpoints there
    were made from anything else.

    beginning: "adopt" also accepts checkpoints without a manifest, as older versions left them; "restart" removes all.
    """
    if beginning == "restart":
        forget(directory)
    settings = config.shaping()
    found = Manifest(digest_of(settings), inventory.digest, given_weights(config, directory))
    known, names = Manifest.read(directory / MANIFEST), checkpoints(directory)
    if names and known is not None:
        check_same(directory, known, found, config, inventory)
    elif names:
        adopt(directory, names, found, config, beginning)
    write_settings(settings, directory, bool(names))
    kept = directory / PICTURES
    if known is None or found.pictures != known.pictures or not kept.exists():
        inventory.write(kept)
    if found != known:
        found.write(directory / MANIFEST)
    return found


def pictures_changes(directory: Path, inventory: Inventory) -> list[str]:
    """How pictures differ from those that the last run in a folder was made from, in words; nothing if they do not."""
    known = Manifest.read(directory / MANIFEST)
    before = Inventory.read(directory / PICTURES)
    if known is None or before is None or known.pictures == inventory.digest:
        return []
    return before.changes(inventory)


def write_settings(settings: dict[str, Any], directory: Path, resumed: bool) -> None:
    """Save the settings for users and for `trainer report`, unless they are there already."""
    path, content = directory / SETTINGS, json.dumps(settings, indent=1).encode()
    if path.exists() and path.read_bytes() == content:
        return
    if resumed:
        print(f"{path}: was lost or damaged; written again, as the settings are those the run began with", flush=True)
    write_atomically(content, path)


def noted_settings(directory: Path) -> Any:
    """The settings in a run's folder, None if they are lost or damaged."""
    try:
        return json.loads((directory / SETTINGS).read_text())
    except (OSError, ValueError, RecursionError):
        return None


def check_same(directory: Path, known: Manifest, found: Manifest, config: Config, inventory: Inventory) -> None:
    """Raise TrainerError that names the difference unless a run's checkpoints were made from the present inputs."""
    if known.settings != found.settings:
        noted = noted_settings(directory)
        if noted is None or digest_of(noted) != known.settings:
            changes = f"which is not known, as its {SETTINGS} is lost or damaged"
        else:
            changes = listed(settings_changes(noted, config.shaping()))
        raise TrainerError(f"{directory}: made with other settings than {config.source}'s: {changes}; {ADVICE}")
    if known.pictures != found.pictures:
        before = Inventory.read(directory / PICTURES)
        if before is None or before.digest != known.pictures:
            changes = f"which is not known, as its {PICTURES} is lost or damaged"
        else:
            changes = ", ".join(before.changes(inventory))
        raise TrainerError(
            f"{directory}: made from other pictures than {config.data.path or 'now'}: {changes}; {ADVICE}"
        )
    for name in sorted(known.weights.keys() | found.weights.keys()):
        was, now = known.weights.get(name), found.weights.get(name)
        if was != now:
            changes = "has changed" if was and now else "was not there" if now else "is missing"
            raise TrainerError(f"{directory}: made from other weights: {name} {changes}; {ADVICE}")


def adopt(directory: Path, names: list[str], found: Manifest, config: Config, beginning: Beginning) -> None:
    """Mark checkpoints without a manifest as made from the present inputs."""
    if beginning != "adopt":
        raise TrainerError(
            f"{directory}: has checkpoints ({listed(names)}) and no {MANIFEST} of what they were made from, as older "
            "versions left them: --adopt continues if settings and pictures have not changed since the run began; "
            + ADVICE
        )
    noted = noted_settings(directory)
    if noted is not None and digest_of(noted) != found.settings:
        changes = listed(settings_changes(noted, config.shaping()))
        raise TrainerError(f"{directory}: made with other settings than {config.source}'s: {changes}; {ADVICE}")
    # All are checked before any is written.
    for write in (False, True):
        for name in names:
            claim_checkpoint(checkpoint_path(directory, name), name, found.digest, write)
