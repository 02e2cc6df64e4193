"""Processes and devices: one process, or torchrun with DDP or FSDP2 (gloo on CPU, NCCL on CUDA).

FSDP2 gathers float32 weights (no mixed-precision policy), so that one and many processes compute
the same thing; a checkpoint holds whole tensors and loads under any number of processes.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.train_config import TrainConfig


@dataclass
class Processes:
    """Place of this process among all."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def start(cls, requested_device: str) -> Processes:
        """Join the processes that torchrun started, if any.  ValueError when the device is not there."""
        cuda = torch.cuda.is_available() if requested_device == "auto" else requested_device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise ValueError("device=cuda: PyTorch sees no CUDA device here; use device=auto or cpu")
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device = torch.device("cpu")
        if cuda:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group("nccl" if cuda else "gloo", **({"device_id": device} if cuda else {}))
        return cls(rank, world, device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """`values`, added over all processes in place."""
        if dist.is_initialized():
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process (waits for the device)."""
        if not dist.is_initialized():
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        if dist.is_initialized():
            dist.barrier()

    def stop(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


def wrap(step: nn.Module, config: TrainConfig, processes: Processes) -> nn.Module:
    """The module to call in training: `step` itself, in DDP, or sharded in place by FSDP2."""
    if not dist.is_initialized():
        return step
    if config.parallel == "fsdp":
        from torch.distributed.fsdp import fully_shard
        for layer in step.model.model.layers:
            fully_shard(layer)
        fully_shard(step)
        if processes.device.type == "cpu":  # gloo has no average
            for module in [step, *step.model.model.layers]:
                module.set_force_sum_reduction_for_comms(True)
        return step
    # Its graph splitter cannot handle activation checkpointing, and one all-reduce a step is cheap.
    torch._dynamo.config.optimize_ddp = False
    ids = [processes.device.index] if processes.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(step, device_ids=ids, gradient_as_bucket_view=True)


def accumulate_only(module: nn.Module, last: bool):
    """Context of one micro-batch: gradients are exchanged in the last one of a step only."""
    if isinstance(module, nn.parallel.DistributedDataParallel) and not last:
        return module.no_sync()
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(last)
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded (a collective call then)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copy_whole(target: Tensor, value: Tensor) -> None:
    """Fill a tensor that may be sharded from a whole one that every process has."""
    value = value.to(device=target.device, dtype=target.dtype)
    if isinstance(target, DTensor):
        value = distribute_tensor(value, target.device_mesh, target.placements)
    target.copy_(value)
