"""Times the chunk-sparse FFN beside what other runtimes offer, interleaved, over weights that are in no cache.

    python -m benchmarks.ffn                        # everything: about an hour
    python -m benchmarks.ffn --quick                # the 1.2B layer, T = 1, 8, 32, one thread: a few minutes
    python -m benchmarks.ffn --build-only           # the models first, 10 minutes, so that a quiet machine only times
    python -m benchmarks.ffn --sizes 1.2B --tokens 1 8 --threads 1 --peers blockffn ort-qmoe

Ours runs through ExecuTorch, as a user's program does. Every peer is first checked against a float64 reference.
Writes raw.jsonl (every sample), results.json, table.md and ffn.png into --out. Interrupted, the same command goes on
where it stopped. $BLOCKFFN_LIB names another library than build/'s, $BLOCKFFN_KERNELS other kernels of it.
Exit 0 done, 1 failed (also when our delegate computes something wrong), 2 bad arguments, 130 interrupted.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks import measure, report
from benchmarks.layers import SIZES
from benchmarks.peers import PEERS
from benchmarks.worker import PRIMER, READS, WARM_UP

ROOT = Path(__file__).resolve().parent.parent
TOKENS = (1, 2, 4, 8, 16, 32, 64)
TRACES = "22M-traces"
KERNELS_VARIABLE = "BLOCKFFN_KERNELS"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ffn", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=[*SIZES, TRACES], metavar="SIZE",
                        help=f"of {', '.join(SIZES)} (synthetic routing) and {TRACES} (the shipped checkpoint's, on "
                             "held-out text); default: all but toy")
    parser.add_argument("--tokens", nargs="+", type=int, metavar="T", help="chunk lengths, 1..64; default: powers of 2")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1 2")
    parser.add_argument("--peers", nargs="+", metavar="NAME", default=list(PEERS),
                        help=f"names or their beginnings, of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="one size, three chunk lengths, one thread")
    parser.add_argument("--build-only", action="store_true", help="build the models for a later run and time nothing")
    parser.add_argument("--rounds", type=int, default=25, help="timed passes of each peer at most (25)")
    parser.add_argument("--least", type=int, default=7, help="timed passes of each peer at least (7)")
    parser.add_argument("--processes", type=int, default=2, help="times that each size is loaded anew; the best counts, "
                        "because the memory that a process gets makes up to 1.6x for some peers (2)")
    parser.add_argument("--seconds", type=float, default=20, help="for one chunk length, once there are enough (20)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench-ffn")
    parser.add_argument("--models", type=Path, help="built models, 2 GB a size, kept for later runs (OUT/models)")
    args = parser.parse_args(argv)
    args.sizes = args.sizes or (["1.2B"] if args.quick else [s for s in SIZES if s != "toy"] + [TRACES])
    args.tokens = args.tokens or ([1, 8, 32] if args.quick else list(TOKENS))
    args.threads = args.threads or ([1] if args.quick else [1, 2])
    names = [p for p in PEERS if any(p.startswith(name) for name in args.peers)]
    if unknown := [name for name in args.peers if not any(p.startswith(name) for p in PEERS)]:
        parser.error(f"unknown peer {', '.join(unknown)}; choose from {', '.join(PEERS)}")
    args.peers = names
    if not all(1 <= t <= 64 for t in args.tokens):
        parser.error("--tokens: chunks have 1 to 64 tokens")
    if not all(1 <= n <= (os.cpu_count() or 1) for n in args.threads):
        parser.error(f"--threads: this machine has {os.cpu_count()} cores")
    if args.least < 1 or args.rounds < args.least or args.processes < 1:
        parser.error("--rounds must be at least --least, and that and --processes at least 1")
    args.models = args.models or args.out / "models"
    return args


def models_key() -> str:
    sources = [Path(__file__).with_name(n) for n in ("layers.py", "peers.py", "onnx_peers.py", "traces.py")]
    sources += [ROOT / "export" / n for n in ("backend.py", "onnx_graph.py", "ops.py", "pack.py", "precisions.py", "program.py",
                                          "quantize.py")]
    return measure.build_key(json.dumps(measure.machine()["packages"]), sources)


def setting(args: argparse.Namespace) -> dict:
    """What every sample of one raw.jsonl has in common."""
    from runtime_delegates.loader import DEFAULT_LIBRARY, LIBRARY_VARIABLE

    library = Path(os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY)
    if not library.is_file():
        raise RuntimeError(f"the backend library is missing: no file {library}; run `make build`")
    return {
        "event": "setting", **measure.machine(), "library_sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
        "kernels_variable": os.environ.get(KERNELS_VARIABLE), "rounds": args.rounds, "least": args.least,
        "seconds": args.seconds, "peers": args.peers, "key": models_key(),
    }


def read_events(raw: Path) -> list[dict]:
    """Events of an earlier run; what an interruption cut off at the end is left out."""
    events = []
    if raw.exists():
        for line in raw.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return events


class Log:
    """raw.jsonl and the same events in memory."""

    def __init__(self, path: Path, events: list[dict]) -> None:
        self.events = events
        part = path.with_suffix(".part")  # rewritten, because the last line may be torn
        part.write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
        part.rename(path)
        self._file = path.open("a", encoding="utf-8")

    def add(self, event: dict) -> None:
        self.events.append(event)
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()


def work(job: dict, log: Log, stderr, on_event) -> None:
    """Runs a worker to its end. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.get("threads", os.cpu_count())), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    try:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] != "built":
                log.add(event)
            on_event(event)
        if process.wait():
            raise RuntimeError(f"the worker for {job['size']} ended with {process.returncode}; see {stderr.name}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def run(args: argparse.Namespace, log: Log, peers: list[str], stderr) -> None:
    """Builds and times every cell that `log` has not got yet."""
    done = {(e["size"], e["threads"], e["process"], e["tokens"]) for e in log.events if e["event"] == "cell"}
    jobs = [(s, n, p) for s in args.sizes for n in args.threads for p in range(args.processes)]
    todo = [(*job, tokens) for job in jobs if (tokens := [t for t in args.tokens if (*job, t) not in done])]
    base = {"models": str(args.models), "peers": peers, "key": models_key(), "rounds": args.rounds,
            "least": args.least, "seconds": args.seconds}
    per_cell = (args.rounds + WARM_UP) * (len(peers) + len(READS))
    unbuilt = {size: list(dict.fromkeys([PRIMER, size])) for size, *_ in todo}
    total = sum(len(tokens) for *_, tokens in todo)
    bar = tqdm(total=total, unit="cell", disable=not sys.stderr.isatty(), bar_format="{l_bar}{bar}| {n:.2f}/{total} "
               "[{elapsed}<{remaining}] {postfix}")
    for size, threads, process, tokens in todo:
        for name in unbuilt.pop(size, ()):
            bar.set_postfix_str(f"building {name}")
            work({**base, "mode": "build", "size": name}, log, stderr,
                 lambda e: bar.set_postfix_str(f"built {e['size']} {e['peer']}"))
        if args.build_only:
            continue
        finished = bar.n

        def show(event: dict) -> None:
            nonlocal finished
            if event["event"] == "cell":
                finished += 1
                bar.update(finished - bar.n)
            elif event["event"] == "sample":
                bar.set_postfix_str(f"{size}, {threads} threads, T={event['tokens']}, {event['peer']}", refresh=False)
                bar.update(min(1 / per_cell, max(finished + 0.99 - bar.n, 0)))
            elif event["event"] in ("wrong", "failed"):
                tqdm.write(f"{event['size']} {event['peer']}: {event['reason']}", file=sys.stderr)

        job = {"mode": "time", "size": size, "threads": threads, "process": process, "tokens": tokens}
        work({**base, **job}, log, stderr, show)
    bar.close()


def write(args: argparse.Namespace, events: list[dict], skipped: dict[str, list[str]]) -> list[dict]:
    """results.json, table.md and ffn.png from the events."""
    rows = report.rows(events)
    problems = [e for e in events if e["event"] in ("wrong", "failed")]
    kernels = next((e["kernels"] for e in events if e["event"] == "backend"), None)
    context = next(e for e in events if e["event"] == "setting")
    result = {"setting": context, "kernels": kernels, "skipped": skipped, "problems": problems, "rows": rows}
    title = f"Sparse FFN, {kernels} kernels, {context['cpu']}, {context['cores']} cores"
    texts = {
        "results.json": json.dumps(result, indent=1),
        "table.md": f"# {title}\n\n{report.table(rows)}\n\n# Every peer\n\n{report.table(rows, details=True)}\n",
    }
    for name, text in texts.items():
        (args.out / f"{name}.part").write_text(text, encoding="utf-8")
        (args.out / f"{name}.part").rename(args.out / name)
    report.picture(rows, args.out / "ffn.png", title)
    return rows


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the worker, too
    started = time.monotonic()
    skipped = {p: missing for p in args.peers if (missing := PEERS[p].missing())}
    for name, packages in skipped.items():
        print(f"skipped {name}: needs {', '.join(packages)}; pip install 'blockffn-edge[bench]'", file=sys.stderr)
    try:
        context = setting(args)
        args.models.mkdir(parents=True, exist_ok=True)
        raw = args.out / ("build.jsonl" if args.build_only else "raw.jsonl")
        args.out.mkdir(parents=True, exist_ok=True)
        events = read_events(raw) or [context]
        if events[0] != context:
            changed = [k for k in context if events[0].get(k) != context[k]]
            raise RuntimeError(f"{raw} was measured with other {', '.join(changed)}; name another --out or remove it")
        log = Log(raw, events)
        with (args.out / "worker.log").open("w") as stderr:
            run(args, log, [p for p in args.peers if p not in skipped], stderr)
        if args.build_only:
            print(json.dumps({"models": str(args.models), "skipped": list(skipped),
                              "seconds": round(time.monotonic() - started, 1)}))
            return 0
        rows = write(args, events, skipped)
        wrong = [e for e in events if e["event"] in ("wrong", "failed") and e["peer"].startswith("blockffn")]
        if wrong:
            raise RuntimeError(f"{wrong[0]['peer']}: {wrong[0]['reason']}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(report.table(rows), end="\n\n")
    print(json.dumps({"rows": len(rows), "noisy": sum(r["noisy"] for r in rows), "skipped": list(skipped),
                      "out": str(args.out), "seconds": round(time.monotonic() - started, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
