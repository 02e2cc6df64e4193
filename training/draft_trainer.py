"""The training loop of a draft head: batches in, checkpoints, metrics and a head in the published layout out.

The device is not waited for inside a step: losses are fetched together every log_every steps. With a time limit the
learning rate follows the clock instead of the step, falls to zero at the limit, and the head is saved there; parts
of a run that was interrupted count.

Axes    see draft_step.py.   Units  seconds; ce in nats, agree in [0, 1].
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from training.curves import MetricsLog, draw_draft_curves, read_metrics
from training.draft import DraftConfig, DraftHead
from training.draft_config import DraftTrainConfig
from training.draft_data import DraftBatch, draft_batch, draft_vocabulary, generated_texts
from training.draft_files import save_draft
from training.draft_step import DraftStep
from training.files import write_whole
from training.loader import prefetched
from training.model import CausalLM
from training.optimizer import make_optimizer
from training.parallel import Processes
from training.schedule import TrainingStopped
from training.state import find_checkpoints, load_state, save_state
from training.stop_signal import StopSignal

SAVE_S = 20.0  # under a time limit, checkpoints are this far apart at most: machines are taken away
TIMED_STEPS = 10_000_000  # of a run that only its time limit ends


class DraftTrainer:
    """`checkpoint` is the opened target; `started` a time.monotonic() from which a time limit counts."""

    def __init__(self, config: DraftTrainConfig, checkpoint, dataset, processes: Processes,
                 time_limit: float | None = None, started: float | None = None):
        self.config, self.checkpoint, self.dataset, self.processes = config, checkpoint, dataset, processes
        self.time_limit, self.started = time_limit, time.monotonic() if started is None else started
        self.device, self.on_cuda = processes.device, processes.device.type == "cuda"
        bf16 = config.uses_bf16(self.device.type)
        if self.on_cuda:
            torch.set_float32_matmul_precision("high" if bf16 else "highest")
        self.target = CausalLM.from_checkpoint(checkpoint, self.device, torch.bfloat16 if bf16 else torch.float32)
        Path(config.out_dir, "checkpoints").mkdir(parents=True, exist_ok=True)
        always = [i for i in checkpoint.config.eos_ids if i < dataset.vocab_size]
        remap = draft_vocabulary(dataset, config.draft_vocab_size, always)
        self.head = DraftHead(DraftConfig(checkpoint.config, **config.model), remap)
        self.head.init_weights(config.seed)
        self.head.to(self.device)
        self.step = DraftStep(self.head, self.target, config, self.device)
        if config.compile == "true" or (config.compile == "auto" and self.on_cuda):
            self.step.compile()
        self.optimizer = make_optimizer(self.head, config, fused=self.on_cuda)
        self.done, self.earlier_s = 0, 0.0
        self.pending: list[tuple[int, float, torch.Tensor]] = []
        self.clock, self.clock_step, self.saved = time.monotonic(), 0, time.monotonic()
        self.stop = StopSignal()

    # ---- schedule ----
    @property
    def elapsed(self) -> float:
        """Seconds of the whole run, earlier parts included."""
        return self.earlier_s + time.monotonic() - self.started

    def fraction_left(self) -> float:
        """Of the run, from 1 to 0: by steps, or by the clock under a time limit."""
        if self.time_limit is not None:
            return max(0.0, 1.0 - self.elapsed / self.time_limit)
        return 1.0 - self.done / self.config.steps

    @property
    def steps(self) -> int:
        return self.config.steps if self.time_limit is None else TIMED_STEPS

    def finished(self) -> bool:
        return self.done >= self.steps or (self.time_limit is not None and self.elapsed >= self.time_limit)

    # ---- one step ----
    def train_step(self, batch: DraftBatch, lr: float) -> torch.Tensor:
        """One optimizer step; returns [loss, ce and agree of every unrolled step, grad norm] on the device."""
        config, total = self.config, 0.0
        for ids, docs in batch.micro_batches:
            loss, stats, _ = self.step(ids.to(self.device, non_blocking=True), docs.to(self.device, non_blocking=True))
            (loss / max(batch.count, 1)).backward()
            total = total + torch.cat((loss.detach().reshape(1), stats))
        norm = torch.nn.utils.clip_grad_norm_(self.head.parameters(), config.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.cat((total / max(batch.count, 1), norm.reshape(1)))

    # ---- the run ----
    def run(self) -> dict:
        """Train to the end, or from the newest checkpoint; returns the summary.  Raises TrainingStopped."""
        config = self.config
        generated = generated_texts(self.dataset, self.target, config)
        self._resume()
        log = MetricsLog(config.out_dir, self.done)
        bar = tqdm(total=self.steps if self.time_limit is None else None, initial=self.done, unit="step",
                   file=sys.stderr, dynamic_ncols=True, disable=None)
        batches = prefetched(lambda step: draft_batch(self.dataset, generated, step, config, self.on_cuda), self.done,
                             self.steps)
        self.clock, self.clock_step = time.monotonic(), self.done
        with self.stop:
            try:
                while not self.finished():
                    warm = min(1.0, (self.done + 1) / max(config.warmup_steps, 1))
                    lr = config.lr * warm * self.fraction_left()
                    self.pending.append((self.done, lr, self.train_step(next(batches), lr)))
                    self.done += 1
                    bar.update()
                    logs = self.done % config.log_every == 0 or self.finished()
                    if logs or self.stop.name:
                        self._flush(log, bar)
                    late = self.time_limit is not None and time.monotonic() - self.saved > SAVE_S
                    if self.done % config.checkpoint_every == 0 or self.stop.name or (logs and late) or self.finished():
                        self._flush(log, bar)
                        self._save()
                    if self.stop.name:
                        return self.stop.summary(self.done, config.out_dir)
                return self._finish()
            finally:
                batches.close()
                bar.close()
                log.close()

    def _resume(self) -> None:
        found = find_checkpoints(self.config.out_dir)
        if found:
            saved = load_state(found[-1], self.head, self.optimizer, self.config, self.processes)
            if saved["token_id_remap"] != self.head.token_id_remap.tolist():
                raise ValueError(f"{found[-1]}: the data gives another draft vocabulary than it gave this run; use the "
                                 "same data, or choose another out_dir for a new run")
            self.done, self.earlier_s = saved["step"], saved["elapsed_s"]
            print(f"resuming after step {self.done} from {found[-1]}", file=sys.stderr)

    def _flush(self, log: MetricsLog, bar: tqdm) -> None:
        """Fetch the pending rows, refuse what is not finite, write them."""
        if not self.pending:
            return
        values = torch.stack([row for *_, row in self.pending]).tolist()
        elapsed, steps = time.monotonic() - self.clock, self.done - self.clock_step
        speed = steps * self.config.global_batch_tokens / max(elapsed, 1e-9)
        self.clock, self.clock_step, rows = time.monotonic(), self.done, []
        for (step, lr, _), (loss, *stats, norm) in zip(self.pending, values):
            rows.append({"step": step + 1, "tokens": (step + 1) * self.config.global_batch_tokens, "loss": loss,
                         "ce": stats[0::2], "agree": stats[1::2], "grad_norm": norm, "lr": lr,
                         "elapsed_s": round(self.elapsed, 2), "tokens_per_s": round(speed)})
        self.pending = []
        bad = next((row for row in rows if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]))), None)
        log.write([flat(row) for row in rows if row is not bad])
        if bad is not None:
            raise TrainingStopped(f"step {bad['step']}: the loss is {bad['loss']} and the gradient's norm "
                                  f"{bad['grad_norm']}; resume with a lower lr or grad_clip, the last checkpoint is intact")
        text = (f"ce {rows[-1]['ce'][0]:.3f} agree {' '.join(f'{a:.3f}' for a in rows[-1]['agree'])} "
                f"{speed / 1e3:.1f}k tok/s")
        bar.set_postfix_str(text)
        if bar.disable:
            print(f"step {self.done} {self.elapsed:.0f} s {text}", file=sys.stderr, flush=True)

    def _save(self) -> None:
        """A checkpoint to go on from, and the head as it is now."""
        extra = {"elapsed_s": self.elapsed, "token_id_remap": self.head.token_id_remap.tolist()}
        save_state(self.config.out_dir, self.done, self.head, self.optimizer, self.config, extra, self.processes)
        self._save_head()
        self.saved = self.clock = time.monotonic()
        self.clock_step = self.done

    def _save_head(self) -> Path:
        dtype = torch.bfloat16 if self.config.final_dtype == "bf16" else torch.float32
        return save_draft(Path(self.config.out_dir) / "head", self.head, self.checkpoint, dtype)

    def _finish(self) -> dict:
        config = self.config
        summary = {"status": "finished", "step": self.done, "tokens": self.done * config.global_batch_tokens,
                   "seconds": round(self.elapsed, 1), "head": str(self._save_head()),
                   "parameters": sum(p.numel() for p in self.head.parameters()),
                   "draft_vocab_size": len(self.head.token_id_remap)}
        out_dir = Path(config.out_dir)
        write_whole(out_dir / "summary.json", lambda part: part.write_text(json.dumps(summary, indent=1) + "\n"))
        draw_draft_curves(read_metrics(out_dir / "metrics.jsonl"), out_dir / "curves.png", title=out_dir.name)
        return summary


def flat(row: dict) -> dict:
    """ce and agree as ce1, ce2, ...: one number a key."""
    out = {}
    for key, value in row.items():
        out |= {f"{key}{k}": v for k, v in enumerate(value, start=1)} if isinstance(value, list) else {key: value}
    return out
