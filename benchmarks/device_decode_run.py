"""Decoding of the shipped model on this machine: all experts, sparse, and speculative, prompt by prompt in turns.

    python3 run.py --out results [--threads 1]

Needs nothing but Python 3.8 and the files beside it (benchmarks/device_decode.py puts them there). Modes:

  all       every expert read and computed, as a dense FFN of the same weights; one token a cycle
  sparse    the experts that the token uses; one token a cycle
  ngrams    sparse + speculation in mode auto, drafts from n-grams of the context
  best      the same with the draft head as well
  head      the same with the draft head alone

Greedy: all modes must give the same text, or the run fails. tokens/s are of decoding alone; a figure is the median over the
rounds, summed over the prompts. Output: OUT/decode.json with every sample, and a table on stdout. Exit 0 done, 1 failed.
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODES = {
    "all": ["--mode", "plain", "--experts", "all"],
    "sparse": ["--mode", "plain"],
    "ngrams": ["--mode", "auto", "--drafter", "ngram"],
    "best": ["--mode", "auto", "--drafter", "best"],
    "head": ["--mode", "auto", "--drafter", "head"],
}


def generate(quant, mode, prompt, args):
    """(text, figures) of one run of the program."""
    command = [HERE / "blockffn-run", HERE / f"model-{quant}.pte", "--tokenizer", HERE / "tokenizer.json", "-p", prompt,
               "-n", str(args.tokens), "-t", str(args.threads), "--json", *MODES[mode]]
    if mode in ("best", "head"):
        command += ["--draft", HERE / f"draft-{quant}.pte"]
    environment = dict(os.environ, LD_LIBRARY_PATH=str(HERE / "lib"))
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{mode}, {quant}: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
    text, _, last = done.stdout.decode(errors="replace").rstrip("\n").rpartition("\n")
    return text, json.loads(last)


def measure(quant, prompts, args):
    """Samples of one precision: a dict each."""
    samples, texts, names = [], {}, list(MODES)
    for round_ in range(args.rounds):
        for number, (kind, prompt) in enumerate(prompts):
            for mode in names[round_ % len(names):] + names[: round_ % len(names)]:
                text, figures = generate(quant, mode, prompt, args)
                if texts.setdefault(number, text) != text:
                    raise RuntimeError(f"{mode}, {quant}, prompt {number}: the text differs from another mode's")
                samples.append(dict(figures, quant=quant, mode=mode, prompt=number, kind=kind, round=round_))
            print(f"\r{quant}: round {round_ + 1}/{args.rounds}, prompt {number + 1}/{len(prompts)} ", end="",
                  file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def summary(samples):
    """(quant, mode) -> (tokens/s over all prompts, tokens a cycle)."""
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for s in samples:
        if s["generated_tokens"] > 1:
            groups[s["quant"], s["mode"]][s["prompt"]].append(s)
    out = {}
    for key, by_prompt in groups.items():
        # The first token comes with the prompt; the others are decoded.
        tokens = [runs[0]["generated_tokens"] - 1 for runs in by_prompt.values()]
        seconds = [t / statistics.median(r["decode_tokens_per_s"] for r in runs) for t, runs in zip(tokens, by_prompt.values())]
        cycles = [t / statistics.median(r["tokens_per_cycle"] for r in runs) for t, runs in zip(tokens, by_prompt.values())]
        out[key] = (sum(tokens) / sum(seconds), sum(tokens) / sum(cycles))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["int8", "int4"])
    args = parser.parse_args()
    prompts = json.loads((HERE / "prompts.json").read_text(encoding="utf-8"))
    try:
        samples = [s for quant in args.precisions for s in measure(quant, prompts, args)]
    except (RuntimeError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    rates = summary(samples)
    processor = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), "unknown")
    print(f"{processor}, {samples[0]['kernels']}, threads: {args.threads}\n")
    print("| bits | mode | tokens/s | tokens a cycle | to all | to sparse |\n|---|---|---:|---:|---:|---:|")
    for (quant, mode), (rate, a_cycle) in rates.items():
        print(f"| {quant} | {mode} | {rate:.0f} | {a_cycle:.2f} | {rate / rates[quant, 'all'][0]:.2f}x "
              f"| {rate / rates[quant, 'sparse'][0]:.2f}x |")
    args.out.mkdir(parents=True, exist_ok=True)
    part = args.out / "decode.json.part"
    part.write_text(json.dumps({"processor": processor, "threads": args.threads, "tokens": args.tokens, "samples": samples}))
    part.rename(args.out / "decode.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
