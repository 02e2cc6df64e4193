"""The training loop: batches in, checkpoints, metrics and a final Hugging Face style model out.

The device is never waited for inside a step: losses stay on it and are fetched together every
log_every steps (and before a checkpoint, so that one with a non-finite loss is never written).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from training.attention import choose_backend, use_backend
from training.checkpoint import open_checkpoint, save_checkpoint
from training.train_config import TrainConfig
from training.curves import MetricsLog, draw_curves, read_metrics
from training.evaluation import evaluate_heldout
from training.files import write_whole
from training.loader import StepBatch, step_batches
from training.model import CausalLM
from training.optimizer import make_optimizer
from training.parallel import Processes, accumulate_only, whole, wrap
from training.schedule import ChunkFactor, LossGuard, learning_rate
from training.state import find_checkpoints, load_state, save_state
from training.step import STATS, TrainStep
from training.stop_signal import StopSignal

ROW = STATS + ("grad_norm",)  # fetched from the device every step
REDRAW_S = 20.0  # curves are drawn at checkpoints, but not more often than this


class Trainer:
    """`dataset` and `heldout` have len() and .batch(indices); `window_order` is training.data's."""

    def __init__(self, config: TrainConfig, processes: Processes, dataset=None, heldout=None, window_order=None,
                 tokenizer_dir: Path | None = None):
        self.config, self.processes = config, processes
        self.dataset, self.heldout, self.window_order = dataset, heldout, window_order
        self.tokenizer_dir = tokenizer_dir
        self.micro_steps = config.micro_steps(processes.world)
        self.on_cuda = processes.device.type == "cuda"
        self.compute_dtype = torch.bfloat16 if config.uses_bf16(processes.device.type) else torch.float32
        self.attention = self._choose_attention()
        self.build()
        self.factor, self.guard = ChunkFactor(config), LossGuard(config)
        self.done = 0  # steps
        self.pending: list[tuple[int, float, float, torch.Tensor]] = []  # step, lr, lambda_cs, ROW on the device
        self.clock, self.clock_step, self.tokens_per_s = time.perf_counter(), 0, 0.0
        self.stop = StopSignal()
        self.drawn = time.perf_counter()

    def _choose_attention(self) -> str:
        """Restrict attention to the fastest kernel here; its name."""
        config = self.config
        if not self.on_cuda:
            return "cpu"
        torch.set_float32_matmul_precision("high" if self.compute_dtype == torch.bfloat16 else "highest")  # only the router
        name, self.pad_values = choose_backend(config.attention_backend, config.model, config.micro_batch_size,
                                               config.seq_len, self.compute_dtype)
        use_backend(name)
        return f"{name}, padded values" if self.pad_values else name

    def build(self) -> None:
        config, device = self.config, self.processes.device
        self.model = CausalLM(config.model)
        if config.init_from and not find_checkpoints(config.out_dir):  # a run that is resumed has weights of its own
            self.model.load_weights(open_checkpoint(config.init_from))
        else:
            self.model.init_weights(config.seed)
        self.model.to(device)
        self.model.compute_dtype = self.compute_dtype
        self.model.activation_checkpointing = config.activation_checkpointing
        if self.on_cuda:
            for layer in self.model.model.layers:
                layer.self_attn.pad_values = self.pad_values
        self.step = TrainStep(self.model, config, device)
        sharded = config.parallel == "fsdp" and self.processes.world > 1
        if config.compile in ("true", "layers") or (config.compile == "auto" and self.on_cuda):
            self.step.compile(config.compile_mode, per_layer=sharded or config.compile == "layers")
        self.wrapped = wrap(self.step, config, self.processes)
        self.optimizer = make_optimizer(self.model, config, fused=self.on_cuda)

    # ---- one step ----
    def train_step(self, batch: StepBatch, lr: float, lambda_cs: float) -> torch.Tensor:
        """One optimizer step; returns ROW on the device without waiting for it."""
        device = self.processes.device
        counts = self.processes.sum(batch.counts.to(device, non_blocking=True, copy=True))
        weight = torch.full((), lambda_cs, device=device)
        total = torch.zeros(len(STATS), device=device)
        for index, (ids, docs) in enumerate(batch.micro_batches):
            ids, docs = ids.to(device, non_blocking=True), docs.to(device, non_blocking=True)
            with accumulate_only(self.wrapped, last=index == len(batch.micro_batches) - 1):
                loss, stats = self.wrapped(ids, docs, counts, weight)
                (loss * self.processes.world).backward()  # processes' gradients are averaged: make it their sum
            total += stats
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.cat((self.processes.sum(total), norm.reshape(1)))

    # ---- the run ----
    def run(self) -> dict:
        """Train to the end, or from the newest checkpoint; returns the summary.  Raises TrainingStopped."""
        config = self.config
        self._resume()
        log = MetricsLog(config.out_dir, self.done) if self.processes.is_main else None
        bar = tqdm(total=config.steps, initial=self.done, unit="step", file=sys.stderr, dynamic_ncols=True,
                   disable=not (self.processes.is_main and sys.stderr.isatty()))
        batches = step_batches(self.dataset, self.window_order, self.done, config, self.processes)
        self.clock, self.clock_step = time.perf_counter(), self.done
        with self.stop:
            try:
                for batch in batches:
                    step = self.done
                    lr, weight = learning_rate(step, config), self.factor.weight(step)
                    self.pending.append((step, lr, weight, self.train_step(batch, lr, weight)))
                    self.done += 1
                    bar.update()
                    logs = self.done % config.log_every == 0 or self.done == config.steps
                    stops = self._stop_requested(logs)
                    saves = self.done % config.checkpoint_every == 0 or self.done == config.steps or stops
                    if logs or saves or self.factor.adapts_after(step):
                        self._flush(log, bar, show=logs)
                    if saves:
                        self._save()
                    if stops:
                        return self.stop.summary(self.done, config.out_dir)
                return self._finish()
            finally:
                batches.close()
                bar.close()
                if log is not None:
                    log.close()
                    self._draw()

    def _stop_requested(self, logs: bool) -> bool:
        """Several processes agree at log steps, where they wait for the device anyway."""
        if self.processes.world == 1:
            return self.stop.name is not None
        if not logs or not self.processes.any(self.stop.name is not None):
            return False
        self.stop.name = self.stop.name or "signal to another process"
        return True

    def _resume(self) -> None:
        found = find_checkpoints(self.config.out_dir)
        if found:
            saved = load_state(found[-1], self.model, self.optimizer, self.config, self.processes)
            self.done = saved["step"]
            self.factor.load(saved["chunk_factor"])
            self.guard.load(saved["loss_guard"])
            if self.processes.is_main:
                print(f"resuming after step {self.done} from {found[-1]}", file=sys.stderr)
        elif self.processes.is_main:
            Path(self.config.out_dir, "checkpoints").mkdir(parents=True, exist_ok=True)
        self.processes.barrier()

    def _flush(self, log: MetricsLog | None, bar: tqdm, show: bool) -> None:
        """Fetch the pending rows, watch them, feed the chunk factor, write them."""
        if not self.pending:
            return
        values = torch.stack([row for *_, row in self.pending]).tolist()
        elapsed, steps = time.perf_counter() - self.clock, self.done - self.clock_step
        self.tokens_per_s = steps * self.config.global_batch_tokens / max(elapsed, 1e-9)
        self.clock, self.clock_step = time.perf_counter(), self.done
        rows = []
        try:
            for (step, lr, weight, _), row in zip(self.pending, values):
                row = dict(zip(ROW, row))
                self.guard.observe(step + 1, row)
                self.factor.observe(step, row)
                rows.append({"step": step + 1, "tokens": (step + 1) * self.config.global_batch_tokens, **row,
                             "lr": lr, "lambda_cs": weight, "tokens_per_s": round(self.tokens_per_s)})
        finally:
            self.pending = []
            if log is not None:
                log.write(rows)
        if show and log is not None:
            row = rows[-1]
            text = (f"ce {row['ce']:.3f} tls {row['tls']:.3f} cls8 {row['cls8']:.3f} "
                    f"lambda_cs {row['lambda_cs']:.3g} {self.tokens_per_s / 1e3:.1f}k tok/s")
            bar.set_postfix_str(text)
            if bar.disable:
                print(f"step {row['step']}/{self.config.steps} {text}", file=sys.stderr, flush=True)

    def _save(self) -> None:
        extra = {"chunk_factor": self.factor.state(), "loss_guard": self.guard.state()}
        save_state(self.config.out_dir, self.done, self.model, self.optimizer, self.config, extra, self.processes)
        if self.processes.is_main and time.perf_counter() - self.drawn > REDRAW_S:
            self._draw()
        self.clock, self.clock_step = time.perf_counter(), self.done  # not counted as training time

    def _draw(self) -> None:
        self.drawn = time.perf_counter()
        draw_curves(read_metrics(Path(self.config.out_dir) / "metrics.jsonl"),
                    Path(self.config.out_dir) / "curves.png", title=Path(self.config.out_dir).name)

    def _finish(self) -> dict:
        """Held-out evaluation, final checkpoint and summary.json."""
        config = self.config
        summary = {"status": "finished", "step": self.done, "tokens": self.done * config.global_batch_tokens,
                   "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
                   "lambda_cs": self.factor.factor, "tokens_per_s": round(self.tokens_per_s),
                   "attention": self.attention}
        if self.heldout is not None and len(self.heldout):
            summary |= evaluate_heldout(self.step, self.heldout, config, self.processes)
        tensors = {}
        for name, parameter in self.model.named_parameters():
            tensor = whole(parameter.detach())
            if self.processes.is_main:
                tensors[name] = tensor.cpu()
        if self.processes.is_main:
            final = Path(config.out_dir) / "final"
            dtype = torch.bfloat16 if config.final_dtype == "bf16" else torch.float32
            save_checkpoint(final, config.model, tensors, dtype=dtype, tokenizer_dir=self.tokenizer_dir,
                            max_shard_bytes=config.max_shard_bytes)
            summary["checkpoint"] = str(final)
            write_whole(Path(config.out_dir) / "summary.json", lambda part: part.write_text(json.dumps(summary, indent=1) + "\n"))
        self.processes.barrier()
        return summary
