# SPDX-License-Identifier: MIT
"""Checkpoints: training states, and the committed weights of models."""

import hashlib
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

# A state's file ends with this and the SHA-256 of all before it: torch does not notice most flipped bits of tensors.
MARK = b"\nftervit state, SHA-256: "
ENDING = len(MARK) + 32
METADATA = {"blueprint", "fracs", "teacher", "log"}  # of files of weights, beside their digest
ANEW = "delete it to train this phase anew"


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state atomically, with the digest of its bytes."""
    content = io.BytesIO()
    torch.save(state, content)
    digest = hashlib.sha256(content.getbuffer()).digest()
    content.seek(0, io.SEEK_END)
    content.write(MARK + digest)
    write_atomically(content.getbuffer(), path)


def read_state(content: bytes | memoryview, path: Path) -> dict[str, Any]:
    """The state in a file's content, written by any version."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainerError(f"{path}: not a readable checkpoint ({error}); {ANEW}") from None
    if not isinstance(state, dict):
        raise TrainerError(f"{path}: not a readable checkpoint (holds no training state); {ANEW}")
    return state


def load_if_present(path: Path) -> dict[str, Any] | None:
    """The training state at `path`, or None when there is none; TrainerError for one whose bytes have changed."""
    if not path.exists():
        return None
    content = memoryview(path.read_bytes())
    if content[-ENDING:-32] != MARK:
        raise TrainerError(f"{path}: not a readable checkpoint (it does not end as one of this trainer); {ANEW}")
    if hashlib.sha256(content[:-ENDING]).digest() != content[-32:]:
        raise TrainerError(f"{path}: not a readable checkpoint (its bytes do not give its digest: damaged); {ANEW}")
    return read_state(content[:-ENDING], path)


def made_for(phase: str, manifest: str) -> dict[str, str]:
    """A state's entry "made_for": its phase, and the digest of its run's manifest."""
    return {"phase": phase, "manifest": manifest}


def load_phase(path: Path, phase: str, manifest: str) -> dict[str, Any] | None:
    """load_if_present; TrainerError for the state of another phase or run."""
    state = load_if_present(path)
    if state is not None and state.get("made_for") != made_for(phase, manifest):
        raise TrainerError(f"{path}: a checkpoint of another run or phase; {ANEW}")
    return state


def claim_checkpoint(path: Path, phase: str, manifest: str, write: bool) -> None:
    """Assign a state that an older version wrote to a run, and add the digest of its bytes; TrainerError for a file
    that is not a state. write: False only checks."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - ENDING))
        marked = file.read().startswith(MARK)
    if marked:
        load_phase(path, phase, manifest)
        return
    state = read_state(path.read_bytes(), path)
    if not {"model", "optimizer", "progress"} <= state.keys():
        raise TrainerError(f"{path}: not a readable checkpoint (holds no training state); {ANEW}")
    if write:
        save_state({**state, "made_for": made_for(phase, manifest)}, path)


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write a model's state as safetensors, floating-point tensors as `dtype`."""
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {**metadata, "digest": weights_digest(state, metadata)}
    write_atomically(save(state, metadata), path)


def weights_digest(state: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of everything in a file of weights."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Raise TrainerError for a file of weights whose bytes have changed; older versions wrote no digest."""
    with safe_open(path, "np") as file:
        metadata = dict(file.metadata())
    digest = metadata.pop("digest", None)
    if metadata.keys() - METADATA:
        raise TrainerError(f"{path}: not a checkpoint of this trainer (has metadata {min(metadata.keys() - METADATA)})")
    if digest is not None and digest != weights_digest(state, metadata):
        raise TrainerError(f"{path}: its bytes do not give its digest: damaged; `trainer train` makes it anew")


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


def brought_log(path: Path) -> Any:
    """The log of training that an imported file of weights carries, None without one."""
    with safe_open(path, "np") as file:
        return json.loads(file.metadata().get("log", "null"))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a file of `save_weights` that checkpoint_metadata has read.

    Raises TrainerError that names the file and the tensors that do not fit.
    """
    state = load_file(path)
    check_weights(path, state)
    expected = model.state_dict()
    odd = sorted(set(state) ^ set(expected)) or [n for n in state if state[n].shape != expected[n].shape]
    if odd:
        raise TrainerError(f"{path}: tensors do not fit the model: {', '.join(odd[:4])}")
    model.load_state_dict(state)
