"""Speed of a training configuration: tokens/s, and FLOP/s beside the matrix peak measured here.

FLOPs are those of the dense computation, 6 per matrix weight and token (forward 2, backward 4), the
head counted once, plus 6 * L * H * (K + V) * S/2 for causal attention; recomputation, the router's
element-wise work and the losses count nothing.

Axes  L layers, H heads, K query/key width, V value width, S sequence.   Units  TFLOP/s = 1e12 / s.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from training.train_config import TrainConfig
from training.loader import step_batch
from training.parallel import Processes
from training.trainer import Trainer

WARMUP_STEPS = 3


def flops_per_token(trainer: Trainer) -> tuple[int, int]:
    """(of the matrices, of attention)."""
    model, config = trainer.model, trainer.config
    embedding = model.model.embed_tokens.weight
    weights = sum(p.numel() for p in model.parameters() if p.dim() >= 2 and p is not embedding)
    if model.lm_head is None:
        weights += embedding.numel()  # tied: the look-up is free, the head is not
    shape = config.model
    attention = shape.num_hidden_layers * shape.num_attention_heads * (shape.qk_head_dim + shape.v_head_dim)
    return 6 * weights, 3 * attention * config.seq_len


def matmul_peak_tflops(device: torch.device, dtype: torch.dtype, size: int, repeats: int = 20) -> float:
    """Best rate of square products of random matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    best = float("inf")
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, (time.perf_counter() - start) / repeats)
    return 2 * size**3 / best / 1e12


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class RandomTokens:
    """Stands in for a TokenDataset: uniform tokens in documents of 700."""

    def __init__(self, vocab_size: int, seq_len: int):
        self.vocab_size, self.seq_len = vocab_size, seq_len

    def __len__(self) -> int:
        return 1 << 20

    def batch(self, windows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(int(windows[0]))
        shape = (len(windows), self.seq_len + 1)
        ids = torch.randint(self.vocab_size, shape, generator=generator)
        position = torch.arange(shape[1]) + torch.as_tensor(np.asarray(windows))[:, None] * self.seq_len
        return ids, (position // 700).to(torch.int32)


def benchmark(config: TrainConfig, steps: int) -> dict:
    """Time `steps` optimizer steps after warm-up, then the matrix peak of the device."""
    processes = Processes.start(config.device)
    try:
        trainer = Trainer(config, processes)
        data = RandomTokens(config.model.vocab_size, config.seq_len)
        order = lambda n, seed, start, count: np.arange(start, start + count)  # noqa: E731
        batches = [step_batch(data, order, step, config, processes) for step in range(2)]
        device, cuda = processes.device, processes.device.type == "cuda"
        started = time.perf_counter()
        bar = tqdm(total=WARMUP_STEPS + steps, unit="step", desc="benchmark", file=sys.stderr,
                   disable=not (processes.is_main and sys.stderr.isatty()))
        for step in range(WARMUP_STEPS):
            trainer.train_step(batches[step % 2], config.lr / 100, config.lambda_cs)
            bar.update()
        _wait(device)
        warmup_s = time.perf_counter() - started
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        times = []
        for step in range(steps):
            start = time.perf_counter()
            row = trainer.train_step(batches[step % 2], config.lr / 100, config.lambda_cs)
            _wait(device)
            times.append(time.perf_counter() - start)
            bar.update()  # redraws at most ten times a second, between the times
        bar.close()
        if not bool(torch.isfinite(row).all()):
            raise ValueError(f"the benchmark's last step is not finite: {row.tolist()}")
        memory_gib = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        matrices, attention = flops_per_token(trainer)
        step_s = statistics.median(times)
        tokens_per_s = config.global_batch_tokens / step_s
        tflops = tokens_per_s * (matrices + attention) / 1e12 / processes.world
        name, dtype = trainer.attention, trainer.compute_dtype
        del trainer, batches
        peak = matmul_peak_tflops(device, dtype, 8192 if cuda else 512, repeats=20 if cuda else 2)
    finally:
        processes.stop()
    if not processes.is_main:
        return None
    return {"device": torch.cuda.get_device_name(device) if cuda else "cpu", "processes": processes.world,
            "torch": torch.__version__, "precision": "bf16" if dtype == torch.bfloat16 else "fp32", "attention": name,
            "compile": config.compile, "compile_mode": config.compile_mode, "parameters": parameters,
            "seq_len": config.seq_len, "micro_batch_size": config.micro_batch_size,
            "global_batch_tokens": config.global_batch_tokens, "steps": steps, "warmup_s": round(warmup_s, 1),
            "step_ms_p50": step_s * 1e3, "step_ms_min": min(times) * 1e3, "step_ms_max": max(times) * 1e3,
            "tokens_per_s": round(tokens_per_s), "gflop_per_token": (matrices + attention) / 1e9,
            "attention_share_of_flops": attention / (matrices + attention),
            "tflops_per_device": tflops, "matmul_peak_tflops": peak, "mfu": tflops / peak,
            "peak_memory_gib": memory_gib}
