# SPDX-License-Identifier: MIT
"""A run knows what it was made from: whatever has changed is named in one line, and nothing is mixed."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT
from tests.photos import CLASSES, photograph, write_photos
from tests.trainer.training.test_loop import Interrupted, interrupt_after
from trainer.cli import main
from trainer.data.check import SETTLED_NS
from trainer.errors import TrainerError
from trainer.model.student import Student
from trainer.training.checkpoint import load_if_present, load_weights, save_state
from trainer.training.manifest import Inventory
from trainer.training.restore import load_student, load_teacher

CONFIG = """
seed = 5
data = { source = "folder", path = "PATH", size = 16, channels = 1, validation = 8, workers = 0 }
distillation = { temperature = 2.0, label_weight = 0.3 }
compute = { threads = 1 }

[model]
name = "vit_tiny_patch16_224"
options = { patch_size = 8, embed_dim = 12, depth = 1, num_heads = 2, mlp_ratio = 1 }

[teacher]
training = { optimizer = "sgd", epochs = 1, batch = 8, learning_rate = 0.05, warmup = 0.4, weight_decay = 0.0 }
model = { name = "small_resnet", options = { layers = [1, 1, 1, 1], channels = [4, 4, 4, 4] } }

[student]
epochs = 2
full_precision_epochs = 1
batch = 8
learning_rate = 1e-3
warmup = 0.4
weight_decay = 0.0

[recovery]
epochs = 1
batch = 8
learning_rate = 1e-4
warmup = 0.4
weight_decay = 0.0
calibration = 16
"""
STATES = ("teacher.pt", "student.pt", "recovery.pt")
RESULTS = ("own.safetensors", "student.fp32.safetensors", "teacher.fp16.safetensors")


@dataclass(frozen=True)
class Place:
    """A folder with pictures, their configuration, and a run."""

    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def words(self, *arguments) -> list[str]:
        """A command of the trainer on them."""
        name, *rest = map(str, arguments)
        (self.folder / "own.toml").write_text(CONFIG.replace("PATH", str(self.pictures)))
        return [name, "--config", str(self.folder / "own.toml"), "--run", str(self.run), *rest]

    def trainer(self, *arguments) -> tuple[int, str]:
        """Exit status and what stderr says."""
        return command(*self.words(*arguments))

    def states(self) -> dict[str, bytes]:
        """The run's states, which hold the seconds that training took."""
        return {name: (self.run / name).read_bytes() for name in STATES}

    def results(self) -> list[object]:
        """The run's model file and weights."""
        model, *weights = (self.run / name for name in RESULTS)
        return [model.read_bytes(), *(weights_of(path) for path in weights)]

    def begun_by_an_older_version(self) -> None:
        """Without digests."""
        for name in STATES:
            state = load_if_present(self.run / name)
            torch.save({key: value for key, value in state.items() if key != "made_for"}, self.run / name)
        for name in ("manifest.json", "pictures.json.gz"):
            (self.run / name).unlink()


def weights_of(path: Path) -> dict[str, bytes]:
    """The tensors of a file; the order of its metadata is by chance."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def command(*arguments) -> tuple[int, str]:
    """Exit status and stderr of a command in this process."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr("sys.argv", ["trainer", *map(str, arguments)])
        status = main()
    return status, "".join(line for line in said.getvalue().splitlines(keepends=True) if line.startswith("trainer: "))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run; read only."""
    place = Place(tmp_path_factory.mktemp("trained"))
    write_photos(place.pictures, 8)
    assert place.trainer("train") == (0, "")
    return place


@pytest.fixture
def place(trained, tmp_path):
    """A copy of it, with pictures that keep their path."""
    place = Place(tmp_path / "place")
    shutil.copytree(trained.folder, place.folder)
    assert place.trainer("train", "--restart") == (0, "")
    return place


def refused(place: Place, *arguments) -> str:
    """The one line that a command is refused with; nothing in the run's folder changes."""
    before = {path: path.read_bytes() for path in sorted(place.run.iterdir()) if path.name != "lock"}
    status, said = place.trainer(*(arguments or ("train",)))
    assert status == 1
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in sorted(place.run.iterdir()) if path.name != "lock"} == before
    return said.removeprefix("trainer: ").removeprefix(f"{place.run}").removeprefix(": ").strip()


ADVICE = "; --restart trains from scratch, another --run keeps both"


def made_from_other_pictures(place: Place, changes: str) -> None:
    assert refused(place) == f"made from other pictures than {place.pictures}: {changes}{ADVICE}"


def test_nothing_changed_nothing_is_trained(place, monkeypatch):
    before = place.states(), place.results()
    interrupt_after(monkeypatch, 0)
    assert place.trainer("train") == (0, "")
    assert (place.states(), place.results()) == before


def test_an_added_picture_is_named(place):
    for number in range(5):
        photograph("circle", 77 + number, 60, 60).save(place.pictures / "circle" / f"new {number}.jpg")
    made_from_other_pictures(place, "5 added (circle/new 0.jpg, circle/new 1.jpg, circle/new 2.jpg, ..)")


def test_a_removed_picture_is_named(place):
    (place.pictures / "circle" / "0.jpg").unlink()
    made_from_other_pictures(place, "1 removed (circle/0.jpg)")


def test_a_replaced_picture_is_named_whatever_its_size_and_time(place):
    path = place.pictures / "circle" / "0.jpg"
    stat, content = path.stat(), path.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    made_from_other_pictures(place, "1 replaced (circle/0.jpg)")


def test_a_picture_written_twice_in_an_instant_is_not_mistaken(place):
    """The second content may bear the times of the first."""
    path = place.pictures / "circle" / "0.jpg"
    content = path.read_bytes()
    photograph("circle", 1234, 80, 80).save(path)
    assert place.trainer("train")[0] == 1
    path.write_bytes(content)
    assert SETTLED_NS < 1e9
    assert place.trainer("train") == (0, "")


def test_a_picture_that_turns_unreadable_is_named(place):
    (place.pictures / "circle" / "0.jpg").write_bytes(b"spoilt")
    made_from_other_pictures(place, "1 removed (circle/0.jpg)")


def test_copies_with_new_times_are_the_same_pictures(place):
    moved = place.pictures.rename(place.folder / "moved")
    shutil.copytree(moved, place.pictures, copy_function=shutil.copyfile)
    before = place.states(), place.results()
    assert place.trainer("train") == (0, "")
    assert (place.states(), place.results()) == before


def test_a_renamed_class_is_named(place):
    """As sorted names number the classes, all labels behind it would move."""
    (place.pictures / "checker").rename(place.pictures / "zebra")
    made_from_other_pictures(place, "class checker gone, class zebra new")


def test_swapped_classes_are_named(place):
    for old, new in (("checker", "x"), ("circle", "checker"), ("x", "circle")):
        (place.pictures / old).rename(place.pictures / new)
    said = refused(place)
    assert said.startswith(f"made from other pictures than {place.pictures}: ")
    assert "replaced (checker/0.jpg, checker/1.jpg, " in said


def test_a_removed_class_is_named(place):
    shutil.rmtree(place.pictures / "circle")
    made_from_other_pictures(place, "class circle gone")


def test_an_added_class_is_named(place):
    shutil.copytree(place.pictures / "circle", place.pictures / "disc")
    made_from_other_pictures(place, "class disc new")


def test_a_picture_moved_to_another_class_is_named(place):
    (place.pictures / "circle" / "0.jpg").rename(place.pictures / "checker" / "100.jpg")
    made_from_other_pictures(place, "1 added (checker/100.jpg), 1 removed (circle/0.jpg)")


def test_other_settings_are_named(place):
    said = refused(place, "train", "student.learning_rate=2e-3", "data.hflip=0.25")
    assert said.startswith("made with other settings than ")
    assert said.endswith(f": data.hflip was 0.5, is 0.25, student.learning_rate was 0.001, is 0.002{ADVICE}")


def test_lost_settings_are_written_again_or_asked_for(place, capsys):
    settings = place.run / "settings.json"
    content = settings.read_bytes()
    for lost in (None, content[:100], content.replace(b"5", b"7", 1)):
        settings.unlink() if lost is None else settings.write_bytes(lost)
        said = refused(place, "train", "seed=6")
        assert said.endswith(f": which is not known, as its settings.json is lost or damaged{ADVICE}")
        capsys.readouterr()
        assert place.trainer("train") == (0, "")
        assert "settings.json: was lost or damaged; written again" in capsys.readouterr().out
        assert settings.read_bytes() == content


def test_other_pictures_without_a_list_are_refused_without_names(place):
    path = place.run / "pictures.json.gz"
    content = path.read_bytes()
    (place.pictures / "circle" / "0.jpg").unlink()
    for lost in (None, content[:100], b"", gzip.compress(b"[]")):
        path.unlink(missing_ok=True) if lost is None else path.write_bytes(lost)
        made_from_other_pictures(place, "which is not known, as its pictures.json.gz is lost or damaged")


def test_a_damaged_manifest_is_refused(place):
    path = place.run / "manifest.json"
    content = path.read_bytes()
    for number in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[number] ^= 2
        path.write_bytes(damaged)
        status, said = place.trainer("train") if number % 70 == 0 else (1, "\n")
        assert (status, said.count("\n")) == (1, 1)
    path.write_bytes(b"[" * 100_000)
    assert "manifest.json: damaged" in refused(place)


def test_restart_trains_anew_to_the_weights_of_a_new_folder(place):
    photograph("circle", 77, 60, 60).save(place.pictures / "circle" / "new.jpg")
    assert place.trainer("train")[0] == 1
    assert place.trainer("train", "--restart") == (0, "")
    first = place.results()
    shutil.rmtree(place.run)
    assert place.trainer("train") == (0, "")
    assert place.results() == first
    assert place.trainer("train") == (0, "")


def test_folders_without_checkpoints_begin_anew(place):
    for name in STATES:
        (place.run / name).unlink()
    photograph("circle", 77, 60, 60).save(place.pictures / "circle" / "new.jpg")
    assert place.trainer("train") == (0, "")
    assert place.trainer("train") == (0, "")


def test_restart_removes_states_before_what_they_were_made_from(place, monkeypatch):
    """Interrupted anywhere, what is left belongs together."""
    photograph("circle", 77, 60, 60).save(place.pictures / "circle" / "new.jpg")
    unlink = Path.unlink
    for steps in range(11):
        left = [steps]

        def counted(path, missing_ok=False, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", counted)
            assert place.trainer("train", "--restart")[0] == 130
        names = {path.name for path in place.run.iterdir()}
        if names & set(STATES):
            assert {"manifest.json", "settings.json", "pictures.json.gz"} <= names
            assert place.trainer("train")[0] == 1
        assert not ("recovery.pt" in names and "student.pt" not in names)


def test_checkpoints_of_an_older_version_need_adopting(place):
    before = place.results()
    place.begun_by_an_older_version()
    said = refused(place)
    assert said.startswith("has checkpoints (teacher, student, recovery) and no manifest.json of what they were made")
    assert "--adopt continues" in said
    assert refused(place, "train", "--adopt", "student.epochs=3").startswith("made with other settings than ")
    assert place.trainer("train", "--adopt") == (0, "")
    assert place.results() == before
    photograph("circle", 77, 60, 60).save(place.pictures / "circle" / "new.jpg")
    assert "1 added (circle/new.jpg)" in refused(place)
    assert "1 added (circle/new.jpg)" in refused(place, "train", "--adopt")


def test_an_interrupted_adoption_goes_on(place, monkeypatch):
    before = place.results()
    place.begun_by_an_older_version()
    with monkeypatch.context() as patch:
        patch.setattr("trainer.training.manifest.write_settings", interrupted)
        with pytest.raises(Interrupted):
            place.trainer("train", "--adopt")
    assert "--adopt continues" in refused(place)
    assert place.trainer("train", "--adopt") == (0, "")
    assert place.results() == before


def interrupted(*arguments):
    raise Interrupted


def test_adopt_refuses_what_is_no_checkpoint(place):
    place.begun_by_an_older_version()
    for content in (b"", b"not a checkpoint", (place.run / RESULTS[0]).read_bytes()):
        (place.run / "student.pt").write_bytes(content)
        assert "student.pt: not a readable checkpoint" in refused(place, "train", "--adopt")
    torch.save([1, 2, 3], place.run / "student.pt")
    assert "student.pt: not a readable checkpoint (holds no training state)" in refused(place, "train", "--adopt")
    torch.save({"weight": torch.zeros(3)}, place.run / "student.pt")
    assert "student.pt: not a readable checkpoint (holds no training state)" in refused(place, "train", "--adopt")


def test_adopt_and_restart_exclude_each_other(place):
    assert refused(place, "train", "--adopt", "--restart").startswith("--adopt keeps checkpoints, --restart removes")


# Bytes of checkpoints.


def test_every_flipped_bit_of_a_state_is_noticed(trained, tmp_path):
    generator = random.Random(8)
    content = (trained.run / "student.pt").read_bytes()
    path = tmp_path / "student.pt"
    places = [*range(60), *(len(content) - 1 - index for index in range(80))]
    places += [generator.randrange(len(content)) for _ in range(300)]
    for index in places:
        damaged = bytearray(content)
        damaged[index] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(TrainerError, match=r"student\.pt: not a readable checkpoint"):
            load_if_present(path)
    path.write_bytes(content)
    assert load_if_present(path)["progress"]["epoch"] == 2


@pytest.mark.parametrize(("name", "load"), [(RESULTS[1], load_student), (RESULTS[2], load_teacher)])
def test_every_flipped_bit_of_weights_is_noticed(trained, tmp_path, name, load):
    generator = random.Random(9)
    content = (trained.run / name).read_bytes()
    path = tmp_path / name
    for index in [*range(8), *(generator.randrange(len(content)) for _ in range(100))]:
        damaged = bytearray(content)
        damaged[index] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(TrainerError, match=name):
            load(path)
    path.write_bytes(content)
    load(path)


def test_a_flipped_bit_is_one_line(place):
    path = place.run / "student.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refused(place).endswith(
        "student.pt: not a readable checkpoint (its bytes do not give its digest: damaged); "
        "delete it to train this phase anew"
    )


def test_a_state_of_something_else_is_refused(place, trained):
    path = place.run / "student.pt"
    shutil.copy(place.run / "teacher.pt", path)
    assert "student.pt: a checkpoint of another run or phase" in refused(place)
    # The same phase, other pictures: those of `trained` lie in another folder, which is a setting.
    shutil.copy(trained.run / "student.pt", path)
    assert "student.pt: a checkpoint of another run or phase" in refused(place)
    save_state({"weight": torch.zeros(2)}, path)
    assert "student.pt: a checkpoint of another run or phase" in refused(place)
    torch.save({"weight": torch.zeros(2)}, path)
    assert "student.pt: not a readable checkpoint (it does not end as one of this trainer)" in refused(place)
    path.unlink()
    assert place.trainer("train") == (0, "")


def test_weights_of_older_versions_load(trained, tmp_path):
    """Those in trainer/checkpoints have no digest."""
    path = trained.run / RESULTS[1]
    student = load_student(path)
    assert isinstance(student, Student)
    metadata = {key: value for key, value in student.description().items()}
    save_file(load_file(path), tmp_path / "old.safetensors", metadata)
    load_weights(student, tmp_path / "old.safetensors")
    save_file(load_file(path), tmp_path / "odd.safetensors", {**metadata, "digesu": "00"})
    with pytest.raises(TrainerError, match=r"odd\.safetensors: not a checkpoint of this trainer \(has metadata digesu"):
        load_weights(student, tmp_path / "odd.safetensors")


# Weights that a run begins with.


def with_teacher(place: Place) -> str:
    """The setting that names a kept teacher."""
    shutil.copy(place.run / RESULTS[2], place.folder / "kept.safetensors")
    return f"teacher.checkpoint={place.folder / 'kept.safetensors'}"


def test_another_teacher_is_refused(place):
    change = with_teacher(place)
    kept = place.folder / "kept.safetensors"
    shutil.rmtree(place.run)
    assert place.trainer("train", change) == (0, "")
    assert not (place.run / "teacher.pt").exists()
    content = kept.read_bytes()
    kept.unlink()
    assert refused(place, "train", change).endswith(f"made from other weights: {kept} is missing{ADVICE}")
    kept.write_bytes(content + b" ")
    assert refused(place, "train", change).endswith(f"made from other weights: {kept} has changed{ADVICE}")
    kept.write_bytes(content)
    assert place.trainer("train", change) == (0, "")


def test_a_run_goes_on_with_the_teacher_that_it_trained(place):
    """Even if it has been kept, in fp16, where the settings look for a teacher."""
    kept = place.folder / "kept.safetensors"
    shutil.rmtree(place.run)
    assert place.trainer("train", f"teacher.checkpoint={kept}") == (0, "")
    before = place.results()
    shutil.copy(place.run / RESULTS[2], kept)
    assert place.trainer("train", f"teacher.checkpoint={kept}") == (0, "")
    assert place.results() == before


# Two at once.


@contextlib.contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen]:
    """A training in a process of its own, killed at the end."""
    command = [sys.executable, "-W", "ignore", "-m", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.terminate() if "torch.distributed.run" in words else process.kill()


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until a file is there."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


LONG = ("student.epochs=1000", "data.workers=2", "compute.checkpoint_minutes=0.001")


def test_a_second_training_in_a_folder_is_refused(place):
    shutil.rmtree(place.run)
    words = ["trainer", *place.words("train", *LONG)]
    with started(words) as first:
        wait_for(place.run / "student.pt", first)
        for name in ("train", "control"):
            status, said = place.trainer(name, *LONG, "--restart")
            assert status == 1
            assert said.count("\n") == 1
            assert f"another training (process {first.pid}) is running in it" in said
        assert first.poll() is None
    # Killed, it holds nothing, nor do its workers.
    (place.run / "student.pt").unlink()
    with started(words) as second:
        wait_for(place.run / "student.pt", second)


def test_processes_of_one_training_share_a_folder(place):
    """Only the first takes the lock, and looks at what the run was made from."""
    shutil.rmtree(place.run)
    words = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29619", "-m", "--", "trainer"]
    words += place.words("train", "student.epochs=1000")
    with started(words) as first:
        wait_for(place.run / "student.pt", first)
        status, said = place.trainer("train", "student.epochs=1000")
        assert status == 1
        assert "is running in it" in said
    assert "made with other settings" in refused(place)
    photograph("circle", 77, 60, 60).save(place.pictures / "circle" / "new.jpg")
    with started(words) as second:
        said = second.communicate()[1]
    assert second.returncode == 1
    assert said.count(f"trainer: {place.run}: made from other pictures than") == 1


def test_differences_are_named_briefly():
    def inventory(labels="ab", files="123", digest="0"):
        return Inventory(tuple(labels), {f"a/{file}": f"a {digest}" for file in files}, {"b/9": "b 0"})

    assert inventory().digest == inventory().digest
    assert inventory(files="12345678").changes(inventory()) == ["5 removed (a/4, a/5, a/6, ..)"]
    assert inventory().changes(inventory(labels="ba")) == ["order of classes b, a"]
    assert inventory().changes(inventory(digest="1")) == ["3 replaced (a/1, a/2, a/3)"]
    moved = Inventory(("a", "b"), {"b/9": "b 0"}, {f"a/{file}": "a 0" for file in "123"})
    assert inventory().changes(moved) == ["they are split in another way between training and validation"]
    relabelled = Inventory(("a", "b"), {f"a/{file}": "b 0" for file in "123"}, {"b/9": "b 0"})
    assert inventory().changes(relabelled) == ["3 relabelled (a/1, a/2, a/3)"]


def test_the_manifest_is_readable(trained):
    manifest = json.loads((trained.run / "manifest.json").read_text())
    assert set(manifest) == {"settings", "pictures", "weights", "digest"}
    inventory = Inventory.read(trained.run / "pictures.json.gz")
    assert inventory.digest == manifest["pictures"]
    assert inventory.labels == CLASSES
    assert len(inventory.training) + len(inventory.validation) == 8 * len(CLASSES)
