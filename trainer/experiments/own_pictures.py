# SPDX-License-Identifier: MIT
"""Own photos, quick, on parts of CIFAR-10, beside histograms of gradients with a linear SVM."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from host_sim.setup.shell import run
from trainer.config import load_config
from trainer.data import DataSettings
from trainer.data.archive import data_root
from trainer.data.listing import Folder, layout, list_pictures
from trainer.data.opening import open_folder
from trainer.errors import TrainerError
from trainer.files import commit, write_json
from trainer.modelfile.evaluate import evaluate
from trainer.paths import BUILD, CONFIGS, ROOT
from trainer.training.manifest import file_digest

BASELINE = ("pillow", "scikit-image==0.25.2", "scikit-learn==1.7.2")
UNSEEN = 300  # test pictures of each class
WORK = BUILD / "own-pictures"


@dataclass(frozen=True)
class Task:
    """A small set of pictures to learn. classes: names of folders, none for all; count: pictures of each."""

    name: str
    classes: tuple[str, ...]
    count: int


TASKS = (Task("3x60", ("airplane", "cat", "ship"), 60), Task("10x500", (), 500))


def write_part(root: Folder, classes: tuple[str, ...], count: int, out: Path) -> None:
    """Copy the first `count` pictures of each class to out/CLASS/; TrainerError where there are fewer."""
    listing = list_pictures(root)
    wanted = classes or listing.classes
    for name in wanted:
        files = [file for file in listing.files if file.startswith(f"{name}/")][:count]
        if len(files) < count:
            raise TrainerError(f"{root}/{name}: has {len(files)} pictures, {count} are needed")
        folder = out / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / Path(file).name).write_bytes((root / file).read_bytes())


def write_task(task: Task, data: Path, folder: Path) -> None:
    """The pictures of a task: train/ to learn, unseen/ to measure, which training never sees."""
    shutil.rmtree(folder, ignore_errors=True)
    parts = layout(data_root(str(data)))
    if parts.test is None:
        raise TrainerError(f"{data}: has no train/ and test/, as CIFAR-10 in folders or a zip file has")
    write_part(parts.train, task.classes, task.count, folder / "pictures" / "train")
    write_part(parts.test, task.classes, UNSEEN, folder / "unseen")


def baseline_python() -> Path:
    """The Python of an environment with scikit-image and scikit-learn, made if it is not there."""
    venv = WORK / "venv"
    stamp = venv / "installed"
    if not stamp.is_file() or stamp.read_text() != repr(BASELINE):
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", venv], "making an environment", "own-pictures-venv.log")
        command: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--no-input", "install", *BASELINE]
        run(command, "installing scikit-image and scikit-learn", "own-pictures-pip.log")
        stamp.write_text(repr(BASELINE))
    return venv / "bin" / "python"


def measure(data: Path, output: Path, changes: list[str], baseline: bool = True) -> str:
    """Run all tasks, write their figures as JSON to `output`, and return them as lines for people.

    data: CIFAR-10 in folders or a zip file; changes: of my_pictures.toml's settings; baseline: the SVM, too.
    """
    found: dict[str, float | str | None] = {}
    config = CONFIGS / "my_pictures.toml"
    lines = []
    for task in TASKS:
        folder = WORK / task.name
        write_task(task, data, folder)
        started = time.monotonic()
        words: list[str | Path] = [sys.executable, "-m", "trainer", "train", "--config", config, *changes]
        words += [f"data.path={folder / 'pictures'}", "--run", folder / "run", "--restart"]
        run(words, f"{task.name}, quick", f"own-pictures-{task.name}.log", cwd=ROOT)
        found[f"{task.name}_quick_s"] = round(time.monotonic() - started, 1)
        settings = load_config(config, changes)
        model = ROOT / settings.output.model if settings.output.model else folder / "run" / "my_pictures.safetensors"
        unseen = DataSettings(
            source="folder", path=str(folder), size=settings.data.size, channels=3, validation=0, workers=2
        )
        result = evaluate(open_folder(unseen, folder / "unseen", None), model)
        found[f"{task.name}_quick"] = result.exported_top1
        lines.append(
            f"{task.name}: {result.exported_top1:.2f} % of {result.images} unseen pictures by the exported file, "
            f"{found[f'{task.name}_quick_s']} s"
        )
        if baseline:
            words = [baseline_python(), Path(__file__).with_name("hog_svm.py")]
            words += [folder / "pictures" / "train", folder / "unseen", folder / "svm.txt"]
            run(words, f"{task.name}, HOG + SVM", f"own-pictures-{task.name}-svm.log")
            found[f"{task.name}_hog_svm"] = float((folder / "svm.txt").read_text())
            lines.append(f"  histograms of gradients with a linear SVM: {found[f'{task.name}_hog_svm']:.2f} %")
    found["backbone_sha256"] = file_digest(ROOT / load_config(config, changes).student.weights)
    found["commit"] = commit()
    write_json(found, output)
    return "\n".join(lines)
