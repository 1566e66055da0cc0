# SPDX-License-Identifier: MIT
"""Command line of the trainer: `python -m trainer COMMAND`, see --help.

Each command imports what it needs when it runs, so that --help does not wait for torch.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from trainer.errors import TrainerError
from trainer.files import BUILD, CHECKPOINTS, CONFIGS, MODEL, ROOT, Files

CONFIG = CONFIGS / "fashion_mnist.toml"
CHANGE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*=.*", re.DOTALL)  # section.key=value
EXAMPLES = """\
a folder of your own photos, one subfolder for each class:
  trainer train --config trainer/configs/my_pictures.toml data.path=~/pictures
  trainer evaluate build/train/my_pictures/my_pictures.safetensors --config trainer/configs/my_pictures.toml
  trainer report build/train/my_pictures
  trainer image photo.jpg                      # then copy photo.ppm to the board's images/

several processes (or machines):
  torchrun --nproc-per-node 2 -m trainer train --config X
"""


def add_config(command: argparse.ArgumentParser) -> None:
    """Options of the commands that read a configuration."""
    command.add_argument("--config", type=Path, default=CONFIG, help="the run's settings (default: %(default)s)")
    command.add_argument(
        "--run", type=Path, help="folder of checkpoints and logs (default: build/train/NAME of the configuration)"
    )


def add_changes(command: argparse.ArgumentParser) -> None:
    """Settings changed on the command line."""
    command.add_argument(
        "changes", nargs="*", metavar="SECTION.KEY=VALUE", help="change settings, e.g. student.epochs=10"
    )


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="trainer",
        description="Distil timm vision transformers into fully ternary weights (W2A8) for the ESP32-S3.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="teacher, ternary student, recovery, export; resumes when interrupted")
    add_config(train)
    add_changes(train)
    train.set_defaults(run_command=run_train)

    control = commands.add_parser("control", help="the FP32 twin of a run: same teacher, pictures and epochs")
    add_config(control)
    add_changes(control)
    control.set_defaults(run_command=run_control)

    export = commands.add_parser("export", help="write the model file from a student's checkpoint")
    export.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="its folder (default: %(default)s)")
    export.add_argument("--model", type=Path, default=MODEL, help="the file to write (default: %(default)s)")
    export.set_defaults(run_command=run_export)

    evaluate = commands.add_parser("evaluate", help="accuracy of a model file on the test pictures")
    evaluate.add_argument("model", type=Path, nargs="?", default=MODEL, help="model file (default: %(default)s)")
    evaluate.add_argument("--config", type=Path, default=CONFIG, help="says which pictures (default: %(default)s)")
    evaluate.add_argument(
        "--on",
        choices=("host_sim", "torch", "both"),
        default="both",
        help="host_sim: the file on the shipped kernels; torch: teacher and student; both: and how well they agree",
    )
    evaluate.add_argument(
        "--checkpoints", type=Path, help="folder of teacher and student (default: as the configuration says)"
    )
    evaluate.add_argument("--output", type=Path, default=BUILD / "eval.json", help="JSON result (default: %(default)s)")
    evaluate.add_argument("--images", type=int, help="only the first IMAGES test pictures (default: all)")
    add_changes(evaluate)
    evaluate.set_defaults(run_command=run_evaluate)

    inspect = commands.add_parser("inspect", help="what a model file holds: trits, zeros, bytes, counted from the file")
    inspect.add_argument("model", type=Path, nargs="?", default=MODEL, help="model file (default: %(default)s)")
    inspect.add_argument("--json", action="store_true", help="write JSON instead of a table")
    inspect.set_defaults(run_command=run_inspect)

    report = commands.add_parser("report", help="a run as one HTML page: curves, weights, activations, mistakes")
    report.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or of checkpoints with their record")
    report.add_argument("--config", type=Path, help="its configuration (default: the settings noted in RUN)")
    report.add_argument(
        "--checkpoints", type=Path, help="folder of teacher and student (default: as the settings say, or RUN)"
    )
    report.add_argument("--output", type=Path, help="the page to write (default: RUN/report.html)")
    report.set_defaults(run_command=run_report)

    image = commands.add_parser("image", help="make any photo a picture that the board reads (binary PPM)")
    image.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP, GIF, TIFF ...")
    image.add_argument("--out", type=Path, help="file or folder to write to (default: beside the photo)")
    image.add_argument("--size", type=int, help="side in pixels (default: the photo's own, at most 512)")
    image.add_argument("--grey", action="store_true", help="write a grey PGM")
    image.set_defaults(run_command=run_image)

    images = commands.add_parser("images", help="write the demo's ten pictures, the first of each class")
    images.add_argument("--data", type=Path, help="folder of the four Fashion-MNIST idx files (gzip)")
    images.add_argument("--folder", type=Path, default=ROOT / "firmware" / "images", help="(default: %(default)s)")
    images.set_defaults(run_command=run_images)

    sizes = commands.add_parser(
        "sizes", help="sizes of whole model files for ImageNet's models, exported with random weights"
    )
    sizes.add_argument("--output", type=Path, default=BUILD / "sizes.json", help="JSON result (default: %(default)s)")
    sizes.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files, whose weights are random, there")
    sizes.set_defaults(run_command=run_sizes)

    ablate = commands.add_parser("ablate", help="what each choice of the method is worth; resumes when interrupted")
    ablate.add_argument(
        "--config", type=Path, default=CONFIGS / "ablation.toml", help="the base (default: %(default)s)"
    )
    ablate.add_argument("--run", type=Path, default=BUILD / "ablation", help="a folder a row (default: %(default)s)")
    ablate.add_argument("--output", type=Path, default=CHECKPOINTS / "ablation.json", help="(default: %(default)s)")
    ablate.add_argument("--seeds", type=int, default=2, help="runs of each row (default: %(default)s)")
    ablate.add_argument("--only", default="", metavar="TEXT", help="only rows whose name holds TEXT")
    add_changes(ablate)
    ablate.set_defaults(run_command=run_ablate)

    starts = commands.add_parser("starts", help="what each ternarization rule makes of a run's FP32 control, untrained")
    add_config(starts)
    starts.add_argument("--output", type=Path, default=CHECKPOINTS / "starts.json", help="(default: %(default)s)")
    add_changes(starts)
    starts.set_defaults(run_command=run_starts)

    bench = commands.add_parser("bench", help="what a training step costs beside the FP32 step of the same model")
    bench.add_argument("--config", type=Path, default=CONFIG, help="says which model (default: %(default)s)")
    bench.add_argument("--classes", type=int, default=10, help="(default: %(default)s)")
    bench.add_argument("--rounds", type=int, default=10, help="(default: %(default)s)")
    bench.add_argument("--output", type=Path, default=BUILD / "bench-train.json", help="JSON (default: %(default)s)")
    add_changes(bench)
    bench.set_defaults(run_command=run_bench)

    numbers = commands.add_parser("numbers", help="write README's tables from the JSON that the recipes make")
    numbers.set_defaults(run_command=run_numbers)
    return top


def parse(words: list[str]) -> argparse.Namespace:
    """Arguments of the command line; changes of settings may stand anywhere between the options."""
    changes = [
        word
        for previous, word in zip(["", *words], words, strict=False)
        if CHANGE.fullmatch(word) and not previous.startswith("-")
    ]
    top = parser()
    arguments = top.parse_args([word for word in words if word not in changes])
    if hasattr(arguments, "changes"):
        arguments.changes += changes
    elif changes:
        top.error(f"{arguments.command} takes no settings: {' '.join(changes)}")
    return arguments


def opened(arguments: argparse.Namespace):
    """The configuration that a command names, with its changes, and the run's folder."""
    from trainer.config import load_config

    config = load_config(arguments.config, arguments.changes)
    return config, arguments.run or BUILD / "train" / config.name


def run_train(arguments: argparse.Namespace) -> None:
    """`trainer train`."""
    from trainer import ship

    ship.train(*opened(arguments))


def run_control(arguments: argparse.Namespace) -> None:
    """`trainer control`."""
    from trainer import ship

    ship.control(*opened(arguments))


def run_export(arguments: argparse.Namespace) -> None:
    """`trainer export`."""
    from trainer.export import export
    from trainer.restore import load_student

    files = Files(arguments.model, arguments.checkpoints)
    size = export(load_student(files.student), files.model)
    print(f"{files.model}: {size} bytes")


def run_evaluate(arguments: argparse.Namespace) -> None:
    """`trainer evaluate`."""
    from trainer.checkpoint import write_atomically
    from trainer.config import load_config
    from trainer.data import open_test
    from trainer.evaluate import evaluate
    from trainer.restore import load_student, load_teacher
    from trainer.ship import files_of

    if arguments.images is not None and arguments.images < 1:
        raise TrainerError(f"--images {arguments.images}: must be at least 1")
    config = load_config(arguments.config, arguments.changes)
    files = files_of(config, BUILD / "train" / config.name)
    if arguments.checkpoints:
        files = Files(files.model, arguments.checkpoints)
    pictures = open_test(config.data, BUILD / "readable")
    if arguments.images:
        pictures = pictures.subset(None, arguments.images)
    result = evaluate(
        pictures,
        model=None if arguments.on == "torch" else arguments.model,
        student=None if arguments.on == "host_sim" else load_student(files.student),
        teacher=None if arguments.on == "host_sim" else load_teacher(files.teacher).freeze(),
    )
    write_atomically((json.dumps(result.as_json(), indent=2) + "\n").encode(), arguments.output)
    print(result.table())


def run_inspect(arguments: argparse.Namespace) -> None:
    """`trainer inspect`."""
    from trainer.inspect import inspect

    found = inspect(arguments.model)
    print(json.dumps(found.as_json(), indent=1) if arguments.json else found.text())


def run_report(arguments: argparse.Namespace) -> None:
    """`trainer report`."""
    from trainer.report import write_report

    print(write_report(arguments.run, arguments.output, arguments.checkpoints, arguments.config))


def run_image(arguments: argparse.Namespace) -> None:
    """`trainer image`."""
    from trainer.images import photo_to_ppm

    if arguments.out and len(arguments.photos) > 1 and not arguments.out.is_dir():
        raise TrainerError(f"--out {arguments.out}: must be a folder for more than one photo")
    for photo in arguments.photos:
        photo_to_ppm(photo, arguments.out, arguments.size, arguments.grey)


def run_images(arguments: argparse.Namespace) -> None:
    """`trainer images`."""
    from trainer.images import write_demo_images

    for path in write_demo_images(arguments.folder, arguments.data):
        print(path)


def run_sizes(arguments: argparse.Namespace) -> None:
    """`trainer sizes`."""
    from trainer.sizes import measure

    measure(arguments.output, arguments.keep)


def run_ablate(arguments: argparse.Namespace) -> None:
    """`trainer ablate`."""
    from trainer.ablate import Plan, ablate

    plan = Plan(arguments.config, arguments.run, arguments.output, arguments.seeds, tuple(arguments.changes))
    print(ablate(plan, arguments.only))


def run_starts(arguments: argparse.Namespace) -> None:
    """`trainer starts`."""
    from trainer.starts import measure, trained_control
    from trainer.train import Recipe, calibration_pictures

    config, run = opened(arguments)
    recipe = Recipe.load(config, run)
    student = trained_control(recipe.new_student(), run)
    threads = config.compute.threads
    found = measure(student, calibration_pictures(recipe), recipe.validation, arguments.output, threads)
    for name, top1 in found.items():
        print(f"{name:28} {top1:6.2f} %")


def run_bench(arguments: argparse.Namespace) -> None:
    """`trainer bench`."""
    from trainer.bench import bench
    from trainer.config import load_config

    if arguments.classes < 1 or arguments.rounds < 1:
        raise TrainerError("--classes and --rounds must be at least 1")
    print(
        bench(load_config(arguments.config, arguments.changes), arguments.classes, arguments.rounds, arguments.output)
    )


def run_numbers(arguments: argparse.Namespace) -> None:
    """`trainer numbers`."""
    from trainer.numbers import write_all

    write_all(ROOT / "README.md", BUILD, CHECKPOINTS)


def main() -> int:
    """Entry point; problems that the user can mend become one line."""
    arguments = parse(sys.argv[1:])
    try:
        arguments.run_command(arguments)
    except (TrainerError, OSError) as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        more = "; the same command resumes" if arguments.command in ("train", "control") else ""
        print(f"trainer: interrupted{more}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
