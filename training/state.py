"""Checkpoints a run resumes from: out_dir/checkpoints/step_NNNNNNNN/{state.safetensors, state.json}.

A directory is written under a `.part` name and renamed when it is complete and on disk, so a process
that is killed at any moment leaves either the new checkpoint or the one before.  Tensors are whole
and float32, named `param.*`, `exp_avg.*`, `exp_avg_sq.*` and `rng.*`: the number of processes and
DDP or FSDP may change between runs.

Errors  ValueError names the changed key when a run resumes under another configuration.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from training.files import save_tensors
from training.train_config import TrainConfig
from training.parallel import Processes, copy_whole, whole

PREFIX = "step_"
# Keys that change neither the data nor the mathematics of a step.
FREE_KEYS = {"out_dir", "micro_batch_size", "device", "compile", "compile_mode", "attention_backend",
             "activation_checkpointing", "parallel", "ce_chunk_tokens", "log_every", "checkpoint_every",
             "keep_checkpoints", "divergence_margin", "divergence_steps", "final_dtype", "max_shard_bytes",
             "eval_windows", "tokenizer"}


def find_checkpoints(out_dir: str | os.PathLike) -> list[Path]:
    """Complete checkpoints, oldest first; leftovers of interrupted writes are not among them."""
    folder = Path(out_dir) / "checkpoints"
    return sorted(path for path in folder.glob(PREFIX + "*") if path.name[len(PREFIX):].isdigit())


def check_same_config(saved: dict, config: TrainConfig, where: Path) -> None:
    """ValueError when the run that wrote `saved` cannot be continued under `config`."""
    now = json.loads(json.dumps(config.to_dict()))
    def flat(values: dict) -> dict:
        model = {f"model.{key}": value for key, value in values["model"].items()}
        return {key: value for key, value in values.items() if key != "model" and key not in FREE_KEYS} | model
    old, new = flat(saved), flat(now)
    changed = [f"{key} (was {old.get(key)!r}, now {new.get(key)!r})"
               for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if changed:
        raise ValueError(f"{where} was written under another configuration: {', '.join(changed)}; "
                         "change it back, or choose another out_dir for a new run")


def save_state(out_dir: str | os.PathLike, step: int, model: nn.Module, optimizer: torch.optim.Optimizer,
               config: TrainConfig, extra: dict, processes: Processes) -> None:
    """Write the checkpoint after `step` steps, then delete all but the newest keep_checkpoints."""
    tensors: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        tensor = whole(tensor.detach())  # collective: every process takes part, one keeps it
        if processes.is_main:
            tensors[name] = tensor.cpu().contiguous()

    for name, parameter in model.named_parameters():
        keep(f"param.{name}", parameter)
        for key in ("exp_avg", "exp_avg_sq"):
            keep(f"{key}.{name}", optimizer.state[parameter][key])
    if processes.is_main:
        tensors["rng.cpu"] = torch.get_rng_state()
        if processes.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        final = Path(out_dir) / "checkpoints" / f"{PREFIX}{step:08d}"
        part = final.with_name(final.name + ".part")
        for stale in final.parent.glob("*.part"):
            shutil.rmtree(stale)
        part.mkdir(parents=True)
        try:
            save_tensors(tensors, part / "state.safetensors")
            (part / "state.json").write_text(json.dumps({"step": step, "config": config.to_dict(), **extra}, indent=1))
            for path in (*part.iterdir(), part):
                _sync_to_disk(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if final.exists():
            _remove(final)
        part.rename(final)
        _sync_to_disk(final.parent)
        for old in find_checkpoints(out_dir)[:-config.keep_checkpoints]:
            _remove(old)
    processes.barrier()


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig,
               processes: Processes) -> dict:
    """Restore model, optimizer and random state; returns what state.json holds."""
    try:
        saved = json.loads((path / "state.json").read_text())
        check_same_config(saved["config"], config, path)
        with torch.no_grad(), safe_open(path / "state.safetensors", framework="pt") as file:
            for name, parameter in model.named_parameters():
                copy_whole(parameter, file.get_tensor(f"param.{name}"))
                state = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                for key, tensor in state.items():
                    copy_whole(tensor, file.get_tensor(f"{key}.{name}"))
                on_device = optimizer.defaults["fused"]
                state["step"] = torch.tensor(float(saved["step"]), device=processes.device if on_device else "cpu")
                optimizer.state[parameter] = state
            torch.set_rng_state(file.get_tensor("rng.cpu"))
            if processes.device.type == "cuda" and "rng.cuda" in file.keys():
                torch.cuda.set_rng_state(file.get_tensor("rng.cuda"))
    except (OSError, KeyError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete this folder to resume from the one before") from None
    return saved


def _remove(path: Path) -> None:
    """Delete a checkpoint such that a kill half-way leaves no folder that looks complete."""
    doomed = path.with_name(path.name + ".old.part")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
