"""Command line of the trainer: `python -m trainer train|export|evaluate`."""

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

# The torchvision that imports beside a CPU-only torch misses an image extension that nothing here uses.
warnings.filterwarnings("ignore", message="Failed to load image Python extension")

from trainer import ship  # noqa: E402
from trainer.data import load_fashion_mnist  # noqa: E402
from trainer.errors import TrainerError  # noqa: E402
from trainer.evaluate import ROOT, evaluate, load_student, load_teacher  # noqa: E402
from trainer.export import export  # noqa: E402
from trainer.train import load_config  # noqa: E402

CONFIG = ROOT / "trainer" / "configs" / "fashion_mnist.toml"
EVALUATION = ROOT / "build" / "eval.json"


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="trainer", description="Distil vision transformers into ternary weights.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", type=Path, help="folder of the four Fashion-MNIST idx files (gzip)")
    shared.add_argument("--model", type=Path, default=ship.MODEL, help="the model file (default: %(default)s)")
    shared.add_argument(
        "--checkpoints",
        type=Path,
        default=ship.CHECKPOINTS,
        help="folder of fp16 checkpoints (default: %(default)s)",
    )

    train = commands.add_parser(
        "train", parents=[shared], help="make the shipped model from nothing; resumes when interrupted"
    )
    train.add_argument("--config", type=Path, default=CONFIG, help="the run's settings (default: %(default)s)")
    train.add_argument(
        "--run",
        type=Path,
        default=ROOT / "build" / "train",
        help="checkpoints and logs (default: %(default)s)",
    )
    commands.add_parser("export", parents=[shared], help="write the model file from the student's checkpoint")
    measure = commands.add_parser(
        "evaluate",
        parents=[shared],
        help="measure the model file on the host simulator, teacher and student beside it",
    )
    measure.add_argument("--images", type=int, help="only the first IMAGES test pictures (default: all)")
    return top


def run_evaluate(arguments: argparse.Namespace) -> None:
    """`trainer evaluate`."""
    files = ship.Files(arguments.model, arguments.checkpoints)
    test = load_fashion_mnist("t10k", arguments.data).part(None, arguments.images)
    result = evaluate(files.model, load_student(files.student), load_teacher(files.teacher), test)
    EVALUATION.parent.mkdir(exist_ok=True)
    EVALUATION.write_text(json.dumps(asdict(result), indent=2) + "\n")
    print(result.table())


def run_export(arguments: argparse.Namespace) -> None:
    """`trainer export`."""
    files = ship.Files(arguments.model, arguments.checkpoints)
    size = export(load_student(files.student), ship.labels(), files.model)
    print(f"{files.model}: {size} bytes")


def main() -> int:
    """Entry point; problems that the user can mend become one line."""
    arguments = parser().parse_args()
    try:
        if arguments.command == "train":
            files = ship.Files(arguments.model, arguments.checkpoints)
            ship.train(load_config(arguments.config), arguments.data, arguments.run, files)
        elif arguments.command == "export":
            run_export(arguments)
        else:
            run_evaluate(arguments)
    except TrainerError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trainer: interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
