"""One process of the benchmark: builds a size's files, or times one size with one number of threads.

    python -m benchmarks.worker '{"mode": "time", ...}'

A process of its own, because thread pools cannot be resized under loaded programs and memory must come back.
Events go to standard output, a JSON object a line; benchmarks/ffn.py collects them.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import measure
from benchmarks.layers import SIZES, Inputs, Size, make_inputs
from benchmarks.peers import PEERS, Peer, build, error_of

# (streams, mapped file) of the measurements of read bandwidth
READS = {"read-1-stream": (1, False), "read-8-streams": (8, False),
         "read-file-1-stream": (1, True), "read-file-8-streams": (8, True)}
WARM_UP = 2
PRIMER = "toy"  # size whose run brings a peer's code back into the caches before its weights are read


def size_and_inputs(name: str) -> tuple[Size, Inputs]:
    if name in SIZES:
        return SIZES[name], make_inputs(SIZES[name])
    from benchmarks.traces import active_experts, checkpoint_size

    size = checkpoint_size()
    return size, make_inputs(size, active_experts())


def model_path(models: Path, size: Size, peer: Peer, key: str) -> Path:
    return models / f"{size.name}-{peer.name}-{key}"


def build_all(job: dict, size: Size, inputs: Inputs, emit) -> None:
    """Builds what is not built yet. A peer that cannot be built is reported and left out."""
    for name in job["peers"]:
        path = model_path(Path(job["models"]), size, PEERS[name], job["key"])
        try:
            if not Path(f"{path}.npy").exists():
                build(PEERS[name], size, inputs, path)
            emit(event="built", size=size.name, peer=name)
        except Exception as error:  # whatever a library raises: the others go on
            emit(event="failed", size=size.name, peer=name, reason=f"build: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]


def load_all(job: dict, size: Size, inputs: Inputs, emit) -> dict:
    """{peer: (run, expected y [V, T, D], the same peer's run of the primer)}"""
    loaded, primer = {}, (SIZES[PRIMER], make_inputs(SIZES[PRIMER]))
    for name in job["peers"]:
        peer, runs = PEERS[name], []
        paths = [model_path(Path(job["models"]), s, peer, job["key"]) for s in (size, primer[0])]
        if not all(Path(f"{path}.npy").exists() for path in paths):
            continue  # its building failed and was reported
        try:
            for path, (s, x) in zip(paths, ((size, inputs), primer)):
                runs.append(peer.load(path, s, x, peer.layers(s), job["threads"]))
            loaded[name] = runs[0], np.load(f"{paths[0]}.npy"), runs[1]
        except Exception as error:
            emit(event="failed", size=size.name, peer=name, reason=f"load: {_sentence(error)}")
    return loaded


def check(peer: Peer, run, expected_VTD: np.ndarray, inputs: Inputs, tokens: int) -> float:
    """Largest relative error of a token over the variants; these runs also warm the peer up for this many tokens.

    Raises ValueError when the backend did not read the experts that were prescribed.
    """
    worst = 0.0
    for v in range(len(inputs.x_VTD)):
        y = run(inputs.x_VTD[v, :tokens].numpy().copy())
        if v < len(expected_VTD):
            # max() would drop a NaN that comes second
            worst = float(np.maximum(worst, error_of(y, expected_VTD[v, :tokens])))
    return worst


def check_reads(peer: Peer, run, size: Size, inputs: Inputs, tokens: int) -> None:
    """Raises ValueError unless our operators read exactly the experts of the prescribed unions."""
    for v, union in enumerate(inputs.union(tokens)):
        run.take_stats()
        run(inputs.x_VTD[v, :tokens].numpy().copy())
        stats, layers = run.take_stats(), peer.layers(size)
        if (stats.experts_read, stats.experts_total) != (union * layers, size.experts * layers):
            raise ValueError(f"variant {v} of {tokens} tokens read {stats.experts_read} of {stats.experts_total} "
                             f"experts; the routing prescribes {union * layers}")


def time_cell(job: dict, size: Size, inputs: Inputs, loaded: dict, memory, tokens: int, emit) -> None:
    """Checks every peer at this number of tokens, then times those that are right, interleaved."""
    where = dict(size=size.name, threads=job["threads"], tokens=tokens, process=job["process"])
    xs = [x[:tokens].numpy().copy() for x in inputs.x_VTD]
    passes = {}
    primer_x = make_inputs(SIZES[PRIMER]).x_VTD[0, :tokens].numpy().copy()

    def evict_and_prime(prime) -> None:
        memory.evict()
        prime(primer_x)

    for name, (run, expected, prime) in loaded.items():
        peer = PEERS[name]
        try:
            error = check(peer, run, expected, inputs, tokens)
            if "blockffn" in name:
                check_reads(peer, run, size, inputs, tokens)
        except Exception as failure:
            emit(event="wrong", **where, peer=name, reason=_sentence(failure))
            continue
        if not error <= peer.tolerance:
            reason = f"relative error {error:.3g} exceeds {peer.tolerance:g}"
            emit(event="wrong", **where, peer=name, reason=reason)
            continue
        union = float(np.mean(inputs.union(tokens)))
        emit(event="right", **where, peer=name, error=error, layers=peer.layers(size),
             read_share=union / size.experts if peer.kind == "sparse" else 1.0,
             read_bytes_per_layer=peer.read_bytes(size, union))
        passes[name] = (lambda prime=prime: evict_and_prime(prime)), (lambda r, run=run: run(xs[r % len(xs)]))
    for name, how in READS.items():
        emit(event="right", **where, peer=name, error=0.0, layers=1, read_share=1.0,
             read_bytes_per_layer=memory.sample_bytes)
        passes[name] = memory.evict, lambda r, how=how: memory.sample(how[0], job["threads"], how[1])
    steal, total = measure.steal_and_total()
    started = time.monotonic()
    samples = measure.interleave(passes, job["rounds"] + WARM_UP, job["seconds"], WARM_UP + job["least"])
    for r, name, cpu, wall in samples:
        if r >= WARM_UP:
            emit(event="sample", **where, peer=name, round=r - WARM_UP, cpu_ns=cpu, wall_ns=wall)
    steal, total = (after - before for after, before in zip(measure.steal_and_total(), (steal, total)))
    emit(event="cell", **where, seconds=time.monotonic() - started, load_average=os.getloadavg()[0],
         steal_share=steal / max(total, 1))


def main() -> int:
    job = json.loads(sys.argv[1])
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an event

    def emit(**event) -> None:
        print(json.dumps(event), file=events, flush=True)

    size, inputs = size_and_inputs(job["size"])
    with torch.inference_mode() if job["mode"] == "time" else contextlib.nullcontext():
        if job["mode"] == "build":
            build_all(job, size, inputs, emit)
            return 0
        torch.set_num_threads(job["threads"])
        loaded = load_all(job, size, inputs, emit)
        if any(name.startswith("blockffn") for name in loaded):
            from runtime_delegates.loader import load_backend

            emit(event="backend", kernels=load_backend().kernels, threads=job["threads"], pool=load_backend().threads)
        memory = measure.Memory(Path(job["models"]))
        for tokens in job["tokens"]:
            time_cell(job, size, inputs, loaded, memory, tokens, emit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
