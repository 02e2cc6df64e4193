"""Global batches on the device, prepared one step ahead by a thread.

The windows of a step depend on (seed, step) alone; process r of W takes every W-th of them, so the
global batch, and its counts, are the same for any number of processes and micro-batches.
"""

from __future__ import annotations

import queue
import threading
from typing import Any, Callable, Iterator, NamedTuple

import torch
from torch import Tensor

from training.train_config import TrainConfig
from training.parallel import Processes
from training.step import BatchCounts


class StepBatch(NamedTuple):
    """What one process computes in one step."""

    micro_batches: list[tuple[Tensor, Tensor]]  # ids [B, S+1] int64, docs [B, S+1] int32
    counts: Tensor  # float32 [5], BatchCounts of this process, not yet summed over processes


def step_batch(dataset, window_order, step: int, config: TrainConfig, processes: Processes) -> StepBatch:
    """The share of this process of step `step`, in pinned memory where there is a GPU."""
    windows = window_order(len(dataset), config.seed, step * config.sequences_per_step, config.sequences_per_step)
    windows = windows[processes.rank::processes.world]
    batches, counts = [], torch.zeros(len(BatchCounts._fields))
    for start in range(0, len(windows), config.micro_batch_size):
        ids, docs = dataset.batch(windows[start:start + config.micro_batch_size])
        counts += torch.tensor(BatchCounts.of(docs, config.cs_chunk_len))
        if processes.device.type == "cuda":
            ids, docs = ids.pin_memory(), docs.pin_memory()
        batches.append((ids, docs))
    return StepBatch(batches, counts.pin_memory() if processes.device.type == "cuda" else counts)


def step_batches(dataset, window_order, first_step: int, config: TrainConfig,
                 processes: Processes) -> Iterator[StepBatch]:
    """Batches of steps first_step .. config.steps - 1."""
    return prefetched(lambda step: step_batch(dataset, window_order, step, config, processes), first_step, config.steps)


def prefetched(make: Callable[[int], Any], first_step: int, steps: int, depth: int = 3) -> Iterator:
    """make(step) of steps first_step .. steps - 1, made by a thread; an error of the thread is raised here."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(item) -> None:
        while not closed.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                pass

    def work() -> None:
        try:
            for step in range(first_step, steps):
                if closed.is_set():
                    return
                put(make(step))
        except Exception as error:  # handed over to the main thread
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(first_step, steps):
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
