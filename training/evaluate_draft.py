"""Accepted tokens a cycle of a draft head, or of a small language model as draft, on held-out text.

    python -m training.evaluate_draft checkpoints/blockffn-22m-docs/draft --target checkpoints/blockffn-22m-docs \\
        --text checkpoints/corpus/heldout_sample.jsonl --out out/draft-eval

The target continues the beginnings of held-out documents greedily, and every drafting cycle of that decoding is
played back (training/acceptance.py): chains and trees at several depths. "Tokens a cycle" counts what one run of
the target yields: the accepted candidates plus the bonus token, so 1.0 means that no candidate was accepted. A
draft model must have the target's tokenizer.

Writes OUT/acceptance.json and acceptance.png (without matplotlib: no picture, and a line that says so). The last line
of stdout is one JSON object.   Exit status  0 done, 1 failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from training.files import write_whole

HELDOUT = Path(__file__).resolve().parent.parent / "checkpoints" / "corpus" / "heldout_sample.jsonl"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate_draft", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("draft", type=Path, metavar="HEAD", help="directory of a draft head, or a checkpoint directory")
    parser.add_argument("--target", type=Path, required=True, metavar="CKPT", help="checkpoint that is drafted for")
    parser.add_argument("--text", nargs="+", default=[str(HELDOUT)], metavar="FILE",
                        help="held-out .txt, .jsonl or .parquet (default: the corpus' held-out sample)")
    parser.add_argument("--prompts", type=int, default=64, help="documents, at most (default %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="of each document (default %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=128, help="that the target writes (default %(default)s)")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 5, 6, 7], help="(default: 3 to 7)")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4, 10],
                        help="candidates a step; 1 is a chain (default: 1 2 4 10)")
    parser.add_argument("--nodes", type=int, default=31, help="candidates verified, the root not counted "
                        "(default %(default)s, as published)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of documents (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("out/draft-eval"), help="(default %(default)s)")
    return parser


def evaluate(args: argparse.Namespace) -> dict:
    """The measurement as written to acceptance.json."""
    import torch
    from tqdm import tqdm

    from training.acceptance import measure
    from training.cached import generate
    from training.checkpoint import open_checkpoint
    from training.draft_data import text_lengths
    from training.model import CausalLM
    from training.tokenizer import load_tokenizer

    cuda = torch.cuda.is_available() if args.device == "auto" else args.device == "cuda"
    device = torch.device("cuda" if cuda else "cpu")
    checkpoint = open_checkpoint(args.target)
    if checkpoint.tokenizer_dir is None:
        raise ValueError(f"{args.target}: no tokenizer.json or tokenizer.model; copy the model's tokenizer files there")
    capacity = args.prompt_tokens + args.new_tokens + max(args.depths) + 1
    target = CausalLM.from_checkpoint(checkpoint, device)
    drafter, kind = load_drafter(args.draft, checkpoint, target, capacity + max(args.depths))
    prompts = prompt_tokens(args.text, load_tokenizer(checkpoint.tokenizer_dir), args.prompts, args.prompt_tokens,
                            args.seed).to(device)
    seconds, started = {}, time.monotonic()
    with tqdm(total=len(prompts) * (capacity - args.prompt_tokens), desc="target writes", unit="token", file=sys.stderr,
              disable=None) as bar:
        ids, hidden = generate(target, prompts, capacity - args.prompt_tokens, on_token=bar.update)
    seconds["target writes"] = round(time.monotonic() - started, 1)
    end = args.prompt_tokens + args.new_tokens
    lengths, ended = torch.full((len(ids),), end, device=device), torch.zeros(len(ids), dtype=torch.bool, device=device)
    for eos in checkpoint.config.eos_ids:
        stops = text_lengths(ids[:, :end], args.prompt_tokens, eos).to(device)
        ended |= (ids[:, :end].gather(1, stops[:, None].long() - 1) == eos)[:, 0]
        lengths = torch.minimum(lengths, stops.long())
    started = time.monotonic()
    rows = []
    with torch.no_grad():
        drafter.read(ids, hidden)
    settings = [(width, depth) for width in args.widths for depth in args.depths]
    for width, depth in tqdm(settings, desc="drafting", unit="setting", file=sys.stderr, disable=None):
        result = measure(drafter, ids, args.prompt_tokens, lengths, ended, depth, width, args.nodes)
        rows.append({"width": width, "depth": depth, "tokens_per_cycle": round(result.tokens_per_cycle, 4),
                     "cycles": result.cycles, "tokens": result.tokens, "histogram": result.histogram,
                     "verified_per_cycle": round(result.verified / max(result.cycles, 1), 2)})
    seconds["drafting"] = round(time.monotonic() - started, 1)
    return {"draft": str(args.draft), "kind": kind, "target": str(args.target), "text": [str(t) for t in args.text],
            "documents": len(prompts), "prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens,
            "nodes": args.nodes, "decoding": "greedy", "tokens_per_cycle_counts": "accepted candidates + 1 bonus token",
            "draft_vocab_size": len(drafter.token_ids), "rows": rows, "seconds": seconds}


def load_drafter(path: Path, checkpoint, target, capacity: int) -> tuple:
    """(drafter, "head" or "model"); ValueError if it does not fit the target."""
    from training.checkpoint import open_checkpoint
    from training.draft_files import is_draft, open_draft, tokenizer_sha256
    from training.drafters import HeadDrafter, ModelDrafter
    from training.model import CausalLM

    device = target.head_weight.device
    if is_draft(path):
        return HeadDrafter(open_draft(path, checkpoint).module(device), target, capacity), "head"
    draft = open_checkpoint(path)
    if draft.config.vocab_size != checkpoint.config.vocab_size or tokenizer_sha256(draft) != tokenizer_sha256(checkpoint):
        raise ValueError(f"{path}: this model has another tokenizer than {checkpoint.path}; train one on data that "
                         f"was prepared with --tokenizer {checkpoint.path}")
    return ModelDrafter(CausalLM.from_checkpoint(draft, device), capacity), "model"


def prompt_tokens(text: list[str], tokenizer, count: int, length: int, seed: int):
    """[B, length] beginnings of documents in a seeded order; shorter documents are passed over."""
    import torch

    from training.documents import find_files, iter_documents

    documents = list(iter_documents(find_files(text)))
    random.Random(seed).shuffle(documents)
    prompts, first = [], [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for document in documents:
        ids = (first + tokenizer.encode(document[:16 * length]))[:length]
        if len(ids) == length:
            prompts.append(ids)
        if len(prompts) == count:
            break
    if not prompts:
        raise ValueError(f"{', '.join(text)}: no document has {length} tokens; lower --prompt-tokens or name more --text")
    return torch.tensor(prompts)


def draw(result: dict, path: Path) -> None:
    """Tokens a cycle over the depth, a line for each width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for width in sorted({row["width"] for row in result["rows"]}):
        rows = sorted((row for row in result["rows"] if row["width"] == width), key=lambda row: row["depth"])
        label = "chain" if width == 1 else f"tree, {width} candidates a step, {result['nodes']} verified at most"
        line, = axis.plot([r["depth"] for r in rows], [r["tokens_per_cycle"] for r in rows], marker="o", label=label)
        for row in rows:
            axis.annotate(f"{row['tokens_per_cycle']:.2f}", (row["depth"], row["tokens_per_cycle"]), fontsize=7,
                          textcoords="offset points", xytext=(0, 5), ha="center", color=line.get_color())
    axis.set(xlabel="depth (candidates in a row)", ylabel="tokens a cycle, bonus token included",
             title=f"{result['documents']} held-out documents, {result['new_tokens']} tokens each, greedy")
    axis.set_xticks(sorted({row["depth"] for row in result["rows"]}))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    for key in ("prompts", "prompt_tokens", "new_tokens", "nodes"):
        if getattr(args, key) < 1:
            parser.error(f"--{key.replace('_', '-')} {getattr(args, key)}: choose at least 1")
    if min(args.depths) < 1 or min(args.widths) < 1:
        parser.error("--depths and --widths must be at least 1")
    for path in (args.draft, args.target):
        if not path.is_dir():
            parser.error(f"{path}: not a directory")
    try:
        result = evaluate(args)
        args.out.mkdir(parents=True, exist_ok=True)
        write_whole(args.out / "acceptance.json",
                    lambda part: part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
        try:
            draw(result, args.out / "acceptance.png")
        except ImportError:
            print("no picture: matplotlib is not installed", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(result))
    print(json.dumps(result), flush=True)
    return 0


def table(result: dict) -> str:
    """Tokens a cycle: widths down, depths across."""
    depths = sorted({row["depth"] for row in result["rows"]})
    lines = ["tokens a cycle  " + "".join(f"{'depth ' + str(d):>9}" for d in depths)]
    for width in sorted({row["width"] for row in result["rows"]}):
        found = {row["depth"]: row["tokens_per_cycle"] for row in result["rows"] if row["width"] == width}
        name = "chain" if width == 1 else f"tree, width {width}"
        lines.append(f"{name:<16}" + "".join(f"{found[d]:9.2f}" for d in depths))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
