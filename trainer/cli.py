# SPDX-License-Identifier: MIT
"""Command line of the trainer: every command with its options, see `trainer --help`.

Each command imports what it needs when it runs, so that --help does not wait for torch.
"""

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import Failure, TrainerError, one_line
from trainer.paths import BUILD, CHECKPOINTS, CONFIGS, MODEL, READABLE, ROOT, Files, shown

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.training.manifest import Beginning


def program(name: str) -> str:
    """How a program of this Python's environment is called in a shell here; the trainer's also as a module."""
    script = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found and script.exists() and os.path.samefile(found, script):
        return name
    return f"{shown(Path(sys.executable))} -m {name}" if name == "trainer" and not script.exists() else shown(script)


def examples() -> str:
    """Commands for people to paste, for this folder and environment."""
    config, build = shown(CONFIGS / "my_pictures.toml"), shown(BUILD)
    return f"""\
a folder of your own photos, with a subfolder for each class:
  %(prog)s train --config {config} data.path=~/pictures
  %(prog)s evaluate {build}/train/my_pictures/my_pictures.safetensors \\
      --config {config} data.path=~/pictures
  %(prog)s report {build}/train/my_pictures
  %(prog)s image photo.jpg         # then copy photo.ppm to the board's images/

several processes (or machines):
  {program("torchrun")} --nproc-per-node 2 -m -- trainer train \\
      --config {config} data.path=~/pictures --run {build}/train/two
"""


@dataclass(frozen=True)
class Option:
    """Arguments of argparse's add_argument."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """help: its line in --help; run: called with the parsed options."""

    help: str
    options: tuple[Option, ...]
    run: Callable[[argparse.Namespace], None]


COMMANDS: dict[str, Command] = {}  # by name; the decorator below adds them


def option(*names: str, **settings: Any) -> Option:
    """An option, or an argument without dashes."""
    return Option(names, settings)


def command(name: str, text: str, *options: Option) -> Callable[[Callable], Callable]:
    """Declare a command above the function that runs it."""

    def declare(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
        COMMANDS[name] = Command(text, options, run)
        return run

    return declare


def json_output(path: Path) -> Option:
    """--output of a command that writes JSON."""
    return option("--output", type=Path, default=path, help="JSON file to write (default: %(default)s)")


CONFIG = option("--config", type=Path, default=CONFIGS / "fashion_mnist.toml", help="settings (default: %(default)s)")
RUN = option("--run", type=Path, help="folder of checkpoints and logs (default: build/train/NAME of the configuration)")
CHANGES = option("changes", nargs="*", metavar="SECTION.KEY=VALUE", help="change settings, e.g. student.epochs=10")
MODEL_FILE = option("model", type=Path, nargs="?", default=MODEL, help="model file (default: %(default)s)")


ANEW = option(
    "--restart", action="store_true", help="remove the checkpoints of the run's folder, and train from scratch"
)
ADOPT = option(
    "--adopt",
    action="store_true",
    help="continue from checkpoints of an older version, which did not record what they were made from: record it now",
)


def beginning(arguments: argparse.Namespace) -> "Beginning":
    """What a command does with the checkpoints that it finds."""
    if arguments.restart and arguments.adopt:
        raise TrainerError("--adopt keeps checkpoints, --restart removes them: pass one of the two")
    return "restart" if arguments.restart else "adopt" if arguments.adopt else "resume"


def opened(arguments: argparse.Namespace) -> tuple["Config", Path]:
    """The configuration that a command names, with its changes, and the run's folder."""
    from trainer.config import load_config

    config = load_config(arguments.config, arguments.changes)
    return config, arguments.run or BUILD / "train" / config.name


@command(
    "train",
    "train teacher and ternary student, recover, export; resumes when interrupted",
    CONFIG,
    RUN,
    ANEW,
    ADOPT,
    CHANGES,
)
def train(arguments: argparse.Namespace) -> None:
    """`trainer train`."""
    from trainer.training import pipeline

    pipeline.train(*opened(arguments), beginning(arguments))


@command(
    "control", "train the FP32 twin of a run: same teacher, pictures and epochs", CONFIG, RUN, ANEW, ADOPT, CHANGES
)
def control(arguments: argparse.Namespace) -> None:
    """`trainer control`."""
    from trainer.training import pipeline

    pipeline.control(*opened(arguments), beginning(arguments))


@command(
    "export",
    "write the model file from a student's checkpoint",
    option("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of the checkpoint (default: %(default)s)"),
    option("--model", type=Path, default=MODEL, help="file to write (default: %(default)s)"),
)
def export(arguments: argparse.Namespace) -> None:
    """`trainer export`."""
    from trainer.modelfile import export
    from trainer.training.restore import load_student

    files = Files(arguments.model, arguments.checkpoints)
    size = export.export(load_student(files.student), files.model)
    print(f"{files.model}: {size} bytes")


@command(
    "import",
    "turn the state of a training loop outside the trainer into a checkpoint that phases start from",
    option(
        "state",
        type=Path,
        help="file of torch.save: net, the state dict of a Student or of a Teacher's net; "
        "blueprint, its description(); log, if there",
    ),
    option("out", type=Path, help="safetensors file to write, for student.weights or teacher.checkpoint"),
    option("--config", type=Path, help="settings whose data gives the classes their labels (default: the state's own)"),
    CHANGES,
)
def import_state(arguments: argparse.Namespace) -> None:
    """`trainer import`."""
    from trainer.config import load_config
    from trainer.data.opening import labels_of_data
    from trainer.training.imported import import_state

    if arguments.changes and arguments.config is None:
        raise TrainerError("--config is missing, whose settings would change")
    labels = labels_of_data(load_config(arguments.config, arguments.changes).data) if arguments.config else ()
    print(f"{arguments.out}: {import_state(arguments.state, arguments.out, labels)}")


@command(
    "evaluate",
    "measure the accuracy of a model file on the test pictures",
    option("model", type=Path, nargs="?", help=f"model file (default: {MODEL})"),
    option("--config", type=Path, help="settings (default: those in trainer/configs that the model is named after)"),
    option(
        "--on",
        choices=("host_sim", "torch", "both"),
        default="both",
        help="host_sim: the file on the shipped kernels; torch: teacher and student; both: also how well they agree",
    ),
    option("--checkpoints", type=Path, help="folder of teacher and student (default: from the configuration)"),
    option(
        "--output", type=Path, help="JSON file to write (default: build/eval.json; with a model build/eval-NAME.json)"
    ),
    option(
        "--modelled",
        action=argparse.BooleanOptionalAction,
        help="also simulate the chip for the time of a picture (default: with a model and --on both)",
    ),
    option("--images", type=int, help="number of test pictures, from the first on (default: all)"),
    CHANGES,
)
def evaluate(arguments: argparse.Namespace) -> None:
    """`trainer evaluate`."""
    from trainer.config import load_config
    from trainer.data import open_test
    from trainer.data.opening import has_test
    from trainer.files import write_json
    from trainer.model.predict import computing_on
    from trainer.modelfile import evaluate
    from trainer.training.pipeline import files_of
    from trainer.training.restore import load_student, load_teacher

    if arguments.images is not None and arguments.images < 1:
        raise TrainerError(f"--images {arguments.images}: must be at least 1")
    named, model = arguments.model is not None, arguments.model or MODEL
    own = CONFIGS / f"{model.stem}.toml"
    shared = own if own.exists() else CONFIGS / "fashion_mnist.toml"
    config = load_config(arguments.config or shared, arguments.changes)
    files = files_of(config, BUILD / "train" / config.name)
    if arguments.checkpoints:
        files = Files(files.model, arguments.checkpoints)
    pictures = open_test(config.data, READABLE)
    if arguments.images:
        pictures = pictures.subset(None, arguments.images)
    with_torch = arguments.on != "host_sim" and config.speed == "full"
    with computing_on(config.compute.device) as where:
        if with_torch:
            print(where)
        result = evaluate.evaluate(
            pictures,
            model=None if arguments.on == "torch" else model,
            student=load_student(files.student) if with_torch else None,
            teacher=load_teacher(files.teacher).freeze() if with_torch and files.teacher.exists() else None,
        )
    result = replace(result, part="test" if has_test(config.data) else "validation")
    if with_torch and files.control_record.exists():
        result = replace(result, control_top1=evaluate.recorded_control(files.control_record))
    if (named and arguments.on == "both") if arguments.modelled is None else arguments.modelled:
        result = replace(result, **evaluate.modelled(model, config.output.cores))
    write_json(result.as_json(), arguments.output or BUILD / (f"eval-{model.stem}.json" if named else "eval.json"))
    print(result.table())


@command(
    "teach-bench",
    "measure how well and how fast a Learner learns: accuracy, unknown pictures, time, heap and bytes",
    option("model", type=Path, nargs="?", default=None, help="model file (default: models/eyes, else the shipped one)"),
    option("--data", type=Path, help="folder with esp32-camera and cifar-10, folders or .zip files (or data.path=...)"),
    option("--pooling", choices=("token", "mean", "token+mean"), default="token", help="features (SPEC 9.5)"),
    option("--images", type=int, default=100, help="test pictures of each CIFAR-10 class (default: %(default)s)"),
    option("--methods", action="store_true", help="also compare other methods, and changed pictures"),
    json_output(BUILD / "teach-bench.json"),
    option("changes", nargs="*", metavar="data.path=FOLDER", help="the same as --data"),
)
def teach_bench(arguments: argparse.Namespace) -> None:
    """`trainer teach-bench`."""
    from trainer.experiments import teach
    from trainer.files import write_json

    words = [word for word in (str(arguments.model or ""), *arguments.changes) if word]
    paths = [word.removeprefix("data.path=") for word in words if word.startswith("data.path=")]
    models = [word for word in words if not word.startswith("data.path=")]
    data = arguments.data or (Path(paths[-1]).expanduser() if paths else None)
    if data is None or len(models) > 1:
        raise TrainerError(
            "teach-bench: give at most one model file, and data.path=FOLDER with esp32-camera and cifar-10"
        )
    eyes = MODEL.with_name("eyes.safetensors")
    model = Path(models[0]) if models else eyes if eyes.exists() else MODEL
    result = teach.bench(model, data, arguments.pooling, arguments.images, arguments.methods, teach.say)
    write_json(result, arguments.output)
    print(teach.lines(result))


@command(
    "inspect",
    "count the trits, zeros and bytes of a model file",
    MODEL_FILE,
    option("--json", action="store_true", help="print JSON instead of a table"),
)
def inspect(arguments: argparse.Namespace) -> None:
    """`trainer inspect`."""
    from trainer.modelfile import inspect

    found = inspect.inspect(arguments.model)
    print(json.dumps(found.as_json(), indent=1) if arguments.json else found.text())


@command(
    "report",
    "write a run's HTML page: curves, weights, activations, mistakes",
    option(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="folder of a run, or of checkpoints with their record (default: the shipped model's)",
    ),
    option("--config", type=Path, help="settings (default: those noted in RUN)"),
    option("--checkpoints", type=Path, help="folder of teacher and student (default: from the settings, or RUN)"),
    option(
        "--output",
        type=Path,
        help="page to write (default: RUN/report.html; without RUN, and for committed ones, in build/)",
    ),
)
def report(arguments: argparse.Namespace) -> None:
    """`trainer report`."""
    from trainer.report.sections import write_report

    print(write_report(arguments.run or CHECKPOINTS, arguments.output, arguments.checkpoints, arguments.config))


@command(
    "image",
    "convert photos to the binary PPM that the board reads",
    option("photos", type=Path, nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP, GIF, TIFF ..."),
    option("--out", type=Path, help="folder to write to, or a .ppm or .pgm file (default: the photo's folder)"),
    option("--size", type=int, help="side in pixels (default: the photo's own, at most 512)"),
    option("--grey", action="store_true", help="write a grey PGM"),
)
def image(arguments: argparse.Namespace) -> None:
    """`trainer image`."""
    from trainer.data.pnm import convert_photos

    convert_photos(arguments.photos, arguments.out, arguments.size, arguments.grey)


@command(
    "images",
    "write the demo's ten pictures, the first of each class",
    option("--data", type=Path, help="folder of the four Fashion-MNIST idx files (gzip)"),
    option("--folder", type=Path, default=ROOT / "firmware" / "images", help="where to (default: %(default)s)"),
)
def images(arguments: argparse.Namespace) -> None:
    """`trainer images`."""
    from trainer.data.pnm import write_demo_images

    for path in write_demo_images(arguments.folder, arguments.data):
        print(path)


@command(
    "sizes",
    "measure the model files of ImageNet's networks, exported with random weights",
    json_output(BUILD / "sizes.json"),
    option("--keep", type=Path, metavar="FOLDER", help="keep the files, whose weights are random, in FOLDER"),
)
def sizes(arguments: argparse.Namespace) -> None:
    """`trainer sizes`."""
    from trainer.experiments.sizes import measure

    measure(arguments.output, arguments.keep)


@command(
    "ablate",
    "measure what each choice of the method contributes; resumes when interrupted",
    option("--config", type=Path, default=CONFIGS / "ablation.toml", help="the base (default: %(default)s)"),
    option("--run", type=Path, default=BUILD / "ablation", help="folder of the runs (default: %(default)s)"),
    json_output(CHECKPOINTS / "ablation.json"),
    option("--seeds", type=int, default=2, help="runs of each row (default: %(default)s)"),
    option("--only", default="", metavar="TEXT", help="only rows whose name contains TEXT"),
    CHANGES,
)
def ablate(arguments: argparse.Namespace) -> None:
    """`trainer ablate`."""
    from trainer.experiments.ablate import Plan, ablate

    plan = Plan(arguments.config, arguments.run, arguments.output, arguments.seeds, tuple(arguments.changes))
    print(ablate(plan, arguments.only))


@command(
    "starts",
    "measure a run's FP32 control under each ternarization rule, without training",
    CONFIG,
    RUN,
    json_output(CHECKPOINTS / "starts.json"),
    CHANGES,
)
def starts(arguments: argparse.Namespace) -> None:
    """`trainer starts`."""
    from trainer.experiments.post_training import measure

    print(measure(*opened(arguments), arguments.output))


@command("stress", "measure the errors of ternary gammas and static scales on hard, made-up models")
def stress(arguments: argparse.Namespace) -> None:
    """`trainer stress`."""
    from trainer.experiments.stress import measure

    print(measure(BUILD / "stress.json"))


@command(
    "bench",
    "time a training step, and the FP32 step of the same model",
    CONFIG,
    option("--classes", type=int, default=10, help="(default: %(default)s)"),
    option("--rounds", type=int, default=10, help="(default: %(default)s)"),
    json_output(BUILD / "bench-train.json"),
    CHANGES,
)
def bench(arguments: argparse.Namespace) -> None:
    """`trainer bench`."""
    from trainer.config import load_config
    from trainer.experiments.bench import bench

    if arguments.classes < 1 or arguments.rounds < 1:
        raise TrainerError("--classes and --rounds must be at least 1")
    config = load_config(arguments.config, arguments.changes)
    print(bench(config, arguments.classes, arguments.rounds, arguments.output))


@command(
    "own-pictures",
    "measure quick training on parts of CIFAR-10, and histograms of gradients with a linear SVM",
    option("data", type=Path, metavar="CIFAR-10", help="folder or zip file with train/CLASS/ and test/CLASS/"),
    json_output(BUILD / "own-pictures.json"),
    option("--no-baseline", action="store_true", help="without the SVM, which takes packages of its own"),
    CHANGES,
)
def own_pictures(arguments: argparse.Namespace) -> None:
    """`trainer own-pictures`."""
    from trainer.experiments.own_pictures import measure

    print(measure(arguments.data, arguments.output, arguments.changes, not arguments.no_baseline))


@command("numbers", "write the tables of README and docs/numbers.md from the JSON files of the other commands")
def numbers(arguments: argparse.Namespace) -> None:
    """`trainer numbers`."""
    from trainer.report.tables import write_all

    write_all(BUILD, CHECKPOINTS)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog=program("trainer"),
        description="Distil timm vision transformers into fully ternary weights (W2A8) for the ESP32-S3.",
        epilog=examples(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, declared in COMMANDS.items():
        added = commands.add_parser(name, help=declared.help)
        for one in declared.options:
            added.add_argument(*one.names, **one.settings)
    return top


CHANGE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*=.*", re.DOTALL)  # section.key=value


# Options without a value, behind which a change may stand.
FLAGS = {
    prefix + name.removeprefix("--")
    for declared in COMMANDS.values()
    for one in declared.options
    if "action" in one.settings
    for name in one.names
    for prefix in ("--", "--no-")
}


def parse(words: list[str]) -> argparse.Namespace:
    """Arguments of the command line; changes of settings may stand anywhere between the options."""
    changes = [
        word
        for previous, word in zip(["", *words], words, strict=False)
        if CHANGE.fullmatch(word) and (not previous.startswith("-") or previous in FLAGS)
    ]
    top = parser()
    arguments = top.parse_args([word for word in words if word not in changes])
    if hasattr(arguments, "changes"):
        arguments.changes += changes
    elif changes:
        top.error(f"{arguments.command} takes no settings: {' '.join(changes)}")
    return arguments


def main() -> int:
    """Entry point; errors that the user can correct become one line."""
    arguments = parse(sys.argv[1:])
    try:
        COMMANDS[arguments.command].run(arguments)
    except (Failure, OSError) as error:
        print(f"trainer: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        resume = "the same command without --restart" if getattr(arguments, "restart", False) else "the same command"
        more = f"; {resume} resumes" if arguments.command in ("train", "control") else ""
        print(f"trainer: interrupted{more}", file=sys.stderr)
        return 130
    return 0
