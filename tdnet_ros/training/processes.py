"""The processes of a training: one, or as many as torchrun has started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from tdnet_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Processes:
    """This process is number ``rank`` of ``count``; it computes on ``device``."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def share_network(self, network: nn.Module) -> nn.Module:
        """On several GPUs batch norms take their statistics over all of them; gloo on a CPU has no such norm."""
        if self.count > 1 and self.device.type == "cuda":
            shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return shared
        return network

    def share_gradients(self, stage: nn.Module) -> nn.Module:
        """The module whose backward averages gradients over the processes."""
        if self.count == 1:
            return stage
        devices = [self.device.index or 0] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(stage, device_ids=devices, find_unused_parameters=True)


def join_processes(device: str) -> Processes:
    """Join torchrun's processes where there are some. Raises ConfigurationError for a device that is not there."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device
    if device in ("", "auto"):
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"device is '{device}', expected cpu: torch sees no CUDA device")
    if kind == "cuda":
        kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    chosen = torch.device(kind)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    return Processes(rank, count, chosen)
