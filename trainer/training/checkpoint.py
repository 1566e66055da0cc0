# SPDX-License-Identifier: MIT
"""Checkpoints: training states, and the committed weights of models."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from trainer.errors import TrainerError
from trainer.files import write_atomically


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state atomically."""
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(content.getvalue(), path)


def load_if_present(path: Path) -> dict[str, Any] | None:
    """The training state at `path`, or None when there is none."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainerError(f"{path}: not a readable checkpoint ({error}); delete it to start anew") from None


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write a model's state as safetensors, floating-point tensors as `dtype`."""
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_atomically(save(state, metadata), path)


def checkpoint_metadata(path: Path, *keys: str) -> dict[str, Any]:
    """The JSON values under `keys` of a file that `save_weights` wrote; TrainerError names a file that lacks them."""
    if not path.exists():
        raise TrainerError(f"{path}: not found; `just train` makes it")
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
        return {key: json.loads(metadata[key]) for key in keys}
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise TrainerError(f"{path}: not a checkpoint of this trainer ({error})") from None


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a file of `save_weights` that checkpoint_metadata has read.

    Raises TrainerError that names the file and the tensors at odds.
    """
    state = load_file(path)
    expected = model.state_dict()
    odd = sorted(set(state) ^ set(expected)) or [n for n in state if state[n].shape != expected[n].shape]
    if odd:
        raise TrainerError(f"{path}: tensors do not fit the model: {', '.join(odd[:4])}")
    model.load_state_dict(state)
