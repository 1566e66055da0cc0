# SPDX-License-Identifier: MIT
"""Command line of the trainer: `python -m trainer train|export|evaluate|images|numbers`.

Each command imports what it needs when it runs, so that --help does not wait for torch.
"""

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from trainer.errors import TrainerError
from trainer.files import CHECKPOINTS, MODEL, ROOT, Files

CONFIG = ROOT / "trainer" / "configs" / "fashion_mnist.toml"
BUILD = ROOT / "build"


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="trainer", description="Distil vision transformers into ternary weights.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", type=Path, help="folder of the four Fashion-MNIST idx files (gzip)")
    shared.add_argument("--model", type=Path, default=MODEL, help="the model file (default: %(default)s)")
    shared.add_argument(
        "--checkpoints", type=Path, default=CHECKPOINTS, help="folder of fp16 checkpoints (default: %(default)s)"
    )

    train = commands.add_parser(
        "train", parents=[shared], help="make the shipped model from nothing; resumes when interrupted"
    )
    train.add_argument("--config", type=Path, default=CONFIG, help="the run's settings (default: %(default)s)")
    train.add_argument("--run", type=Path, default=BUILD / "train", help="checkpoints and logs (default: %(default)s)")
    train.set_defaults(run_command=run_train)

    export = commands.add_parser("export", parents=[shared], help="write the model file from the student's checkpoint")
    export.set_defaults(run_command=run_export)

    evaluate = commands.add_parser(
        "evaluate", parents=[shared], help="measure the model file on the host simulator, teacher and student beside it"
    )
    evaluate.add_argument("--output", type=Path, default=BUILD / "eval.json", help="JSON result (default: %(default)s)")
    evaluate.add_argument("--images", type=int, help="only the first IMAGES test pictures (default: all)")
    evaluate.set_defaults(run_command=run_evaluate)

    images = commands.add_parser("images", help="write the demo's ten pictures, the first of each class")
    images.add_argument("--data", type=Path, help="folder of the four Fashion-MNIST idx files (gzip)")
    images.add_argument("--folder", type=Path, default=ROOT / "firmware" / "images", help="(default: %(default)s)")
    images.set_defaults(run_command=run_images)

    numbers = commands.add_parser(
        "numbers", parents=[shared], help="write README's table from build/eval.json and build/demo.json"
    )
    numbers.set_defaults(run_command=run_numbers)
    return top


def run_images(arguments: argparse.Namespace) -> None:
    """`trainer images`."""
    from trainer.images import write_demo_images

    for path in write_demo_images(arguments.folder, arguments.data):
        print(path)


def run_train(arguments: argparse.Namespace) -> None:
    """`trainer train`."""
    from trainer import ship
    from trainer.config import load_config

    files = Files(arguments.model, arguments.checkpoints)
    ship.train(load_config(arguments.config), arguments.data, arguments.run, files)


def run_export(arguments: argparse.Namespace) -> None:
    """`trainer export`."""
    from trainer.data import FASHION_MNIST_LABELS
    from trainer.evaluate import load_student
    from trainer.export import export

    files = Files(arguments.model, arguments.checkpoints)
    size = export(load_student(files.student), FASHION_MNIST_LABELS, files.model)
    print(f"{files.model}: {size} bytes")


def run_evaluate(arguments: argparse.Namespace) -> None:
    """`trainer evaluate`."""
    from trainer.data import load_fashion_mnist
    from trainer.evaluate import evaluate, load_student, load_teacher

    files = Files(arguments.model, arguments.checkpoints)
    if arguments.images is not None and arguments.images < 1:
        raise TrainerError(f"--images {arguments.images}: must be at least 1")
    test = load_fashion_mnist("t10k", arguments.data).part(None, arguments.images)
    result = evaluate(files.model, load_student(files.student), load_teacher(files.teacher), test)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(asdict(result), indent=2) + "\n")
    print(result.table())


def run_numbers(arguments: argparse.Namespace) -> None:
    """`trainer numbers`."""
    from trainer.numbers import read, table, write_numbers

    files = Files(arguments.model, arguments.checkpoints)
    evaluation, demo = read(BUILD / "eval.json", "eval"), read(BUILD / "demo.json", "demo")
    write_numbers(ROOT / "README.md", table(evaluation, demo, read(files.record, "train")))


def main() -> int:
    """Entry point; problems that the user can mend become one line."""
    # The torchvision that imports beside a CPU-only torch misses an image extension that nothing here uses.
    warnings.filterwarnings("ignore", message="Failed to load image Python extension")
    arguments = parser().parse_args()
    try:
        arguments.run_command(arguments)
    except (TrainerError, OSError) as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        more = "; the same command resumes" if arguments.command == "train" else ""
        print(f"trainer: interrupted{more}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
