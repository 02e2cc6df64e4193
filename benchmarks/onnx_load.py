"""Loading of whole models in ONNX Runtime: time and memory from nothing to the first logits.

    python -m benchmarks.onnx_load --loads 15

Every load is a process of its own, with ONNX Runtime imported and a session of one operator run before; flavours take
turns, and all files are in the page cache. Then the same process loads the model again, several times. The models and
flavours are those of benchmarks/onnx_decode.py, which prints these figures too.

Reported  medians (and the least) in ms: `fresh`, the first load of a process, its CPU time of all threads, and its parts:
          `library` (options, and for ours dlopen and RegisterCustomOps), `session` (the constructor), `rest` (metadata,
          caches, binding), `first` (the first token). `again`: later loads. `empty`: session and first run of a graph of
          one operator, below which no model gets. `anonymous`: memory that the fresh load adds.
Output    the table on stdout, and one JSON object as the last line.
Exit      0 done, 1 failed, 2 bad arguments.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("library", "session", "rest", "first")
AGAIN = 5


def row(*values):
    import numpy as np

    return np.array(values, dtype=np.int64)


def run_chunk(model, ids: list[int], at: int) -> int:
    """A linear chunk, of which only the last token's logits are wanted -> tokens in the context."""
    masks = row(*((2 << i) - 1 if i < 63 else -1 for i in range(len(ids))))
    model.run_chunk(row(*ids)[None], row(*range(at, at + len(ids))), row(at), masks, row(*[-1] * 64), row(len(ids) - 1))
    return at + len(ids)


def tiny_model() -> bytes:
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "tiny", info[:1], info[1:])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString()


def one_load(path: Path, plain: bool, threads: int) -> dict:
    """One load to the first logits, in this process."""
    import onnxruntime

    from export.resources import anonymous_bytes
    from runtime_delegates.onnx_model import OnnxModel

    marks, session = [], onnxruntime.InferenceSession

    def timed(*args, **kwargs):
        marks.append(time.perf_counter())
        made = session(*args, **kwargs)
        marks.append(time.perf_counter())
        return made

    before = anonymous_bytes()
    onnxruntime.InferenceSession = timed
    try:
        used, start = time.process_time(), time.perf_counter()
        model = OnnxModel(path, threads=threads, plain=plain)
        loaded = time.perf_counter()
        run_chunk(model, [1], 0)
        end, used = time.perf_counter(), time.process_time() - used
    finally:
        onnxruntime.InferenceSession = session
    added = (anonymous_bytes() or 0) - (before or 0)
    parts = zip(PARTS, (marks[0] - start, marks[1] - marks[0], loaded - marks[1], end - loaded), strict=True)
    return {"ms": (end - start) * 1e3, "cpu_ms": used * 1e3, "anonymous_bytes": added,
            **{f"{name}_ms": seconds * 1e3 for name, seconds in parts}}


def serve(path: Path, plain: bool, threads: int) -> int:
    """The process of one fresh load."""
    import numpy as np
    import onnxruntime

    tiny = tiny_model()
    for _ in range(2):  # the second is the measurement
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        start = time.perf_counter()
        onnxruntime.InferenceSession(tiny, options).run(None, {"x": np.ones(1, np.float32)})
        empty = (time.perf_counter() - start) * 1e3
    fresh = one_load(path, plain, threads)
    print(json.dumps({"empty_ms": empty, "fresh": fresh, "again": [one_load(path, plain, threads) for _ in range(AGAIN)]}))
    return 0


def measure(paths: dict[str, Path], plain: dict[str, bool], threads: int, loads: int) -> dict[str, dict]:
    """Per flavour the medians, and the least of time and CPU time, of so many processes."""
    from export.report import bar

    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    answers: dict[str, list[dict]] = {name: [] for name in paths}
    names = list(paths)
    with bar("loading", loads * len(names), "loads") as progress:
        for turn in range(loads):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                command = [sys.executable, "-m", "benchmarks.onnx_load", "--serve", str(paths[name].resolve()),
                           "--threads", str(threads), *["--plain"] * plain[name]]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
                if done.returncode != 0:
                    raise RuntimeError(f"a process of the benchmark ended: {' '.join(command)}")
                answers[name].append(json.loads(done.stdout))
                progress.update()
    return {name: summary(found) for name, found in answers.items()}


def summary(answers: list[dict]) -> dict:
    """Of the processes of one flavour."""
    fresh = [answer["fresh"] for answer in answers]
    again = [load for answer in answers for load in answer["again"]]
    out = {key: round(statistics.median(load[key] for load in fresh), 3) for key in fresh[0] if key != "anonymous_bytes"}
    out["anonymous_bytes"] = int(statistics.median(load["anonymous_bytes"] for load in fresh))
    out["loads"], out["min_ms"] = len(fresh), round(min(load["ms"] for load in fresh), 3)
    out["min_cpu_ms"] = round(min(load["cpu_ms"] for load in fresh), 3)
    out["again_ms"] = round(statistics.median(load["ms"] for load in again), 3)
    out["again_min_ms"] = round(min(load["ms"] for load in again), 3)
    out["empty_ms"] = round(statistics.median(answer["empty_ms"] for answer in answers), 3)
    return out


def ratios(loads: dict[str, dict]) -> dict[str, dict]:
    """What the other flavours take as multiples of ours at the same precision, by median and by the least."""
    out = {}
    for quant in ("int8", "int4"):
        ours = loads[f"blockffn-{quant}"]
        for other in (f"qmoe-{quant}", f"dense-{quant}"):
            out[f"{other} / blockffn-{quant}"] = {key: round(loads[other][key] / ours[key], 1) for key in
                                                   ("ms", "min_ms", "cpu_ms", "min_cpu_ms", "again_ms", "again_min_ms")}
    return out


def table(loads: dict[str, dict]) -> str:
    lines = ["| load, ms | fresh (least) | CPU (least) | " + " | ".join(PARTS) + " | again (least) | empty |",
             "|---|---|---|" + "---|" * len(PARTS) + "---|---|"]
    for name, r in loads.items():
        lines.append(f"| {name} | {r['ms']:.1f} ({r['min_ms']:.1f}) | {r['cpu_ms']:.1f} ({r['min_cpu_ms']:.1f}) | "
                     + " | ".join(f"{r[f'{part}_ms']:.2f}" for part in PARTS)
                     + f" | {r['again_ms']:.1f} ({r['again_min_ms']:.1f}) | {r['empty_ms']:.2f} |")
    lines += ["", "| as a multiple of ours | fresh (least) | CPU (least) | again (least) |", "|---|---|---|---|"]
    lines += [f"| {name} | {r['ms']:.1f}x ({r['min_ms']:.1f}x) | {r['cpu_ms']:.1f}x ({r['min_cpu_ms']:.1f}x) "
              f"| {r['again_ms']:.1f}x ({r['again_min_ms']:.1f}x) |" for name, r in ratios(loads).items()]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    from benchmarks import onnx_decode

    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_load", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    onnx_decode.add_model_flags(parser)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve is not None:
        return serve(args.serve, args.plain, args.threads)
    onnx_decode.check_model_flags(parser, args)
    try:
        paths = onnx_decode.build(args)
        loads = measure(paths, onnx_decode.plain_flavours(), args.threads, args.loads)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    print(table(loads))
    print(json.dumps({"loads": loads, "ratios": ratios(loads)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
