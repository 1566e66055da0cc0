# SPDX-License-Identifier: MIT
"""What importing the trainer says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_import_is_silent():
    """The torchvision that imports beside a torch alone has words of an image extension."""
    command = [sys.executable, "-W", "default:Failed to load", "-c", "import trainer.model.vit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
