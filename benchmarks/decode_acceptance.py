"""Tokens a cycle of a draft model in the C++ runner, over depth, as chains and trees, on held-out text.

    python -m benchmarks.decode_acceptance out/blockffn-22m-docs/model-int8.pte --draft out/blockffn-22m-docs/draft-int8.pte

Greedy, mode spec, the draft model alone (no n-grams): counts, not times, so that any machine gives the same numbers. It is the
measurement of training.evaluate_draft over again with quantized programs: the same prompts (documents of the held-out sample in a
seeded order, their first --prompt-tokens), the same trees, the bonus token counted.

Output  a table; the last line is one JSON object with tokens a cycle and verified rows a cycle of each setting.
Exit    0 done, 1 failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "checkpoints" / "blockffn-22m-docs"
HELDOUT = ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode_acceptance", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="program of the target")
    parser.add_argument("--draft", type=Path, required=True, help="program of a draft head or of a small language model")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="checkpoint directory (default: the shipped one)")
    parser.add_argument("--text", nargs="+", default=[str(HELDOUT)], help="held-out documents (default: the corpus' sample)")
    parser.add_argument("--prompts", type=int, default=64, help="(default %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="(default %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=128, help="(default %(default)s)")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 5, 6, 7])
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 3, 10], help="1 is a chain (default: 1 3 10)")
    parser.add_argument("--nodes", type=int, default=31, help="most proposals verified in a cycle (default %(default)s)")
    args = parser.parse_args(argv)
    if min(args.prompts, args.prompt_tokens, args.new_tokens - 1, *args.depths, *args.widths) < 1 or not 1 <= args.nodes <= 63:
        parser.error("numbers must be at least 1, --new-tokens at least 2, --nodes at most 63")
    return args


def measure(args) -> list[dict]:
    from export.report import bar
    from runtime_delegates.logs import quiet_log
    from runtime_delegates.runner import Runner
    from training.evaluate_draft import prompt_tokens
    from training.tokenizer import load_tokenizer

    prompts = prompt_tokens(args.text, load_tokenizer(args.tokenizer), args.prompts, args.prompt_tokens, seed=0).tolist()
    with quiet_log():
        runner = Runner(args.model)
        runner.load_draft(args.draft)
    rows = []
    settings = [(width, depth) for width in args.widths for depth in args.depths]
    with bar("decoding", len(settings) * len(prompts), "prompts") as progress:
        for width, depth in settings:
            cycles = tokens = drafted = 0
            for prompt in prompts:
                result = runner.generate(prompt, args.new_tokens, "spec", drafter="head", draft_width=width, draft_depth=depth,
                                         draft_tokens=min(args.nodes, depth if width == 1 else args.nodes))
                cycles, drafted = cycles + result.cycles, drafted + result.drafted_tokens
                tokens += sum(k * n for k, n in result.emitted.items())
                progress.update()
            rows.append({"width": width, "depth": depth, "tokens_per_cycle": round(tokens / max(cycles, 1), 4), "cycles": cycles,
                         "verified_per_cycle": round(drafted / max(cycles, 1), 2)})
    return rows


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    from training.evaluate_draft import table

    try:
        rows = measure(args)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table({"rows": rows}))
    print(json.dumps({"model": str(args.model), "draft": str(args.draft), "prompts": args.prompts, "nodes": args.nodes, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
