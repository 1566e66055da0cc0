# SPDX-License-Identifier: MIT
"""Several processes that train together."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import nn

from trainer.model.predict import device


@dataclass(frozen=True)
class Processes:
    """This process among those that train together (torchrun's environment); rank 0 validates, writes and prints."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls) -> "Processes":
        """Join the others, if torchrun started this process."""
        if "RANK" not in os.environ:
            return cls()
        if not torch.distributed.is_initialized():
            # A long timeout: the others wait while the first one fills a teacher's table or validates.
            backend = "nccl" if device().type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, timeout=timedelta(hours=12))
        if device().type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print in the first process only."""
        if self.first:
            print(text, flush=True)

    def wait(self) -> None:
        """Wait until all processes get here."""
        if self.world > 1:
            torch.distributed.barrier()

    def share(self, model: nn.Module) -> None:
        """Copy the first process's parameters and statistics to all: those of BatchNorm differ between processes."""
        if self.world > 1:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def text(self, value: str) -> str:
        """The first process's text; all processes wait for it."""
        if self.world == 1:
            return value
        texts = [value]
        torch.distributed.broadcast_object_list(texts, 0)
        return texts[0]

    def mean(self, value: float) -> float:
        """Mean of a number over all processes."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device())
        torch.distributed.all_reduce(total)
        return total.item() / self.world
