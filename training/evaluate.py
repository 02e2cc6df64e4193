"""Perplexity and activation sparsity of a checkpoint on text.

    python -m training.evaluate checkpoints/demo --text checkpoints/corpus/heldout_sample.jsonl --out out/eval

Text is .txt or .md (one document per file), .jsonl or .parquet (key or column "text").  Every document is
read as bos + tokens + eos, in pieces of --context tokens; each token but the first of a document is
predicted once.  Perplexity is per token (eos included), bits per byte relate the same loss to the
bytes of the text and so compare different tokenizers.  TLS, CLS and the reuse ratio are defined in
sparsity.py; a dense checkpoint has none.  With --out, evaluation.json and evaluation.png (expert use
over tokens, CLS curve, sparsity per layer) are written there.  The last line printed is the JSON.

Axes    B pieces, S tokens, L layers, E experts.
Units   nats for the loss; bits for bits_per_byte; sparsities are fractions in [0, 1].
Errors  exit 1 with a sentence, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from training.checkpoint import Checkpoint, open_checkpoint
from training.documents import estimate_bytes, find_files, iter_documents
from training.files import write_whole
from training.losses import IGNORE, cross_entropy_sum
from training.model import CausalLM
from training.sparsity import SparsityMeter
from training.tokenizer import Tokenizer, load_tokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CUDA_BATCH_TOKENS = 32_768
PICTURE_TOKENS = 256  # of the document that the picture shows


class Piece(NamedTuple):
    """Consecutive tokens of one document: `ids[:-1]` are read, `ids[1:]` are predicted."""

    ids: list[int]
    text_bytes: int  # of the whole document, on its first piece; else 0
    first: bool


class Excerpt(NamedTuple):
    """Raw router scores of the document that the picture shows."""

    tokens: list[str]
    scores_LTE: Tensor


def cut_documents(texts: Iterable[str], tokenizer: Tokenizer, context: int, max_tokens: int | None) -> Iterator[Piece]:
    """Pieces of at most `context` predicted tokens; stops, if need be inside a document, at max_tokens."""
    left = math.inf if max_tokens is None else max_tokens
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for text in texts:
        if left < 1:
            return
        ids = bos + tokenizer.encode(text) + tokenizer.eos_ids[:1]
        text_bytes = len(text.encode("utf-8"))
        if len(ids) - 1 > left:
            ids = ids[:int(left) + 1]
            text_bytes = len(tokenizer.decode(ids).encode("utf-8"))
        left -= len(ids) - 1
        for start in range(0, len(ids) - 1, context):
            yield Piece(ids[start:start + context + 1], text_bytes if start == 0 else 0, start == 0)


def batches(pieces: Iterable[Piece], max_batch_tokens: int) -> Iterator[list[Piece]]:
    """Pieces whose padded batch has at most max_batch_tokens, but at least one piece."""
    batch: list[Piece] = []
    for piece in pieces:
        longest = max(len(p.ids) for p in batch + [piece])
        if batch and longest * (len(batch) + 1) > max_batch_tokens:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


@torch.inference_mode()
def evaluate(checkpoint: Checkpoint, tokenizer: Tokenizer, texts: Iterable[str], *, context: int = 1024,
             max_tokens: int | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32,
             batch_tokens: int | None = None, progress: tqdm | None = None) -> tuple[dict, Excerpt | None]:
    """(results as they are printed, excerpt for the picture; None for a dense model)."""
    config = checkpoint.config
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"{tokenizer.path} has {tokenizer.vocab_size} tokens but the model only {config.vocab_size}: "
                         "name the model's own tokenizer with --tokenizer")
    model = CausalLM.from_checkpoint(checkpoint, device, dtype)
    meter = SparsityMeter(config.num_hidden_layers, config.num_experts) if config.is_block_ffn else None
    loss, tokens, text_bytes, documents, excerpt = 0.0, 0, 0, 0, None
    pieces = cut_documents(texts, tokenizer, context, max_tokens)
    if batch_tokens is None:
        batch_tokens = CUDA_BATCH_TOKENS if device.startswith("cuda") else 1  # padding only pays on a GPU
    for batch in batches(pieces, batch_tokens):
        longest = max(len(piece.ids) for piece in batch) - 1
        ids_BS = torch.zeros(len(batch), longest, dtype=torch.int64)  # causal: what follows a piece cannot alter it
        targets_BS = torch.full_like(ids_BS, IGNORE)
        for row, piece in enumerate(batch):
            ids_BS[row, :len(piece.ids) - 1] = torch.tensor(piece.ids[:-1])
            targets_BS[row, :len(piece.ids) - 1] = torch.tensor(piece.ids[1:])
        output = model(ids_BS.to(device))
        loss += cross_entropy_sum(model.head_input(output.hidden).flatten(0, 1), model.head_weight,
                                  targets_BS.flatten().to(device), chunk_tokens=2048).item()
        for row, piece in enumerate(batch):
            length = len(piece.ids) - 1
            if meter:
                scores_LTE = torch.stack([raw_BSE[row, :length] for raw_BSE in output.raw_scores])
                meter.add(scores_LTE)
                shown = len(excerpt.tokens) if excerpt else 0
                if piece.first and shown < min(length, PICTURE_TOKENS):
                    names = [tokenizer.decode([i]) for i in piece.ids[:min(length, PICTURE_TOKENS)]]
                    excerpt = Excerpt(names, scores_LTE[:, :PICTURE_TOKENS].float().cpu())
            tokens, text_bytes, documents = tokens + length, text_bytes + piece.text_bytes, documents + piece.first
            if progress is not None:
                progress.update(length if max_tokens else piece.text_bytes)
    if not tokens:
        raise ValueError("no text to evaluate: the files are empty, or --max-tokens is 0")
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss}: the checkpoint holds or produces values that are not finite")
    result = {"tokens": tokens, "documents": documents, "text_bytes": text_bytes, "context": context,
              "loss_nats": loss / tokens, "perplexity": math.exp(min(loss / tokens, 700)),
              "bits_per_byte": loss / math.log(2) / text_bytes}
    if meter:
        result["sparsity"] = meter.result()
    return result, excerpt


def _print_summary(result: dict) -> None:
    print(f"{result['documents']:,} documents, {result['tokens']:,} tokens, {result['text_bytes']:,} bytes "
          f"in {result['seconds']} s on {result['device']}")
    print(f"perplexity {result['perplexity']:.3f} per token, {result['bits_per_byte']:.4f} bits per byte")
    if "sparsity" not in result:
        print("dense feed-forward: no activation sparsity")
        return
    total = result["sparsity"]
    print(f"{'layer':>5}  {'TLS':>6}  {'CLS8':>6}  {'reuse':>6}")
    for row in [*total["per_layer"], total | {"layer": "all"}]:
        cells = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("tls", "cls8", "reuse_ratio"))
        print(f"{row['layer']:>5}  " + "  ".join(f"{cell:>6}" for cell in cells))


def run(args: argparse.Namespace) -> dict:
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: this machine has no usable CUDA device; use cpu")
    checkpoint = open_checkpoint(args.checkpoint)
    tokenizer_dir = args.tokenizer or checkpoint.tokenizer_dir
    if tokenizer_dir is None:
        raise ValueError(f"{args.checkpoint}: has no tokenizer files; name a directory with --tokenizer")
    context = args.context or min(1024, checkpoint.config.max_position_embeddings)
    files = find_files(args.text)
    start = time.monotonic()
    total, unit = (args.max_tokens, "token") if args.max_tokens else (round(estimate_bytes(files, args.text_key)), "B")
    with tqdm(total=total, unit=unit, unit_scale=True, desc="evaluate", disable=None, file=sys.stderr) as progress:
        result, excerpt = evaluate(checkpoint, load_tokenizer(tokenizer_dir), iter_documents(files, args.text_key),
                                   context=context, max_tokens=args.max_tokens, device=device,
                                   dtype=DTYPES[args.dtype], progress=progress)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    result = {"checkpoint": args.checkpoint, "text": args.text, "dtype": args.dtype, "device": name,
              "seconds": round(time.monotonic() - start, 1), **result}
    if args.out:
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        if excerpt:
            from training.figures import draw_evaluation  # matplotlib takes a second to import

            title = f"{Path(args.checkpoint).resolve().name}: perplexity {result['perplexity']:.2f} on " \
                    f"{result['tokens']:,} tokens"
            write_whole(out / "evaluation.png", lambda part: draw_evaluation(part, title, result["sparsity"], excerpt))
        write_whole(out / "evaluation.json", lambda part: part.write_text(json.dumps(result, indent=2) + "\n"))
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="checkpoint directory, ours or published")
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="held-out text: files or folders")
    parser.add_argument("--text-key", default="text", help="JSON key or parquet column (default %(default)s)")
    parser.add_argument("--tokenizer", metavar="DIR", help="tokenizer (default: the checkpoint's)")
    parser.add_argument("--context", type=int, help="tokens a piece reads (default: 1024, or the model's limit)")
    parser.add_argument("--max-tokens", type=int, help="stop after so many predicted tokens (default: all)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda where there is one)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of the weights (default %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="write evaluation.json and evaluation.png there")
    args = parser.parse_args(argv)
    if any(value is not None and value < 1 for value in (args.context, args.max_tokens)):
        parser.error("--context and --max-tokens must be above 0")
    try:
        result = run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    _print_summary(result)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
