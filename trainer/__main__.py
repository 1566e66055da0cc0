# SPDX-License-Identifier: MIT
"""`trainer COMMAND` and `python -m trainer COMMAND`: see trainer/cli.py."""

import sys
from pathlib import Path


def main() -> int:
    """Entry point; one line where the package was installed without the rest of its tree."""
    if not (Path(__file__).resolve().parent.parent / "firmware" / "ftervit").is_dir():
        print("trainer: works in its own tree: run `pip install -e .` in a clone of it", file=sys.stderr)
        return 1
    from trainer.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
