"""Tokenize a corpus once into memory-mapped shards; dataset.py reads training windows from them.

    python -m training.data prepare --input corpus/train.parquet --heldout corpus/heldout.parquet \\
        --out data/tokens --vocab-size 8192

Input is .txt or .md (one document per file), .jsonl or .parquet (key or column "text").  Documents are
streamed, so the corpus may be far larger than memory.  Every document becomes bos + tokens + eos.
The directory appears whole or not at all:

    metadata.json            counts, dtype and the tokenizer's sha256
    tokenizer/               the tokenizer, copied or trained on a seeded sample of the training text
    SPLIT-00000.tokens       token ids, uint16 (uint32 from 65,537 entries on), little-endian
    SPLIT-00000.documents    int64, where each document of the shard starts; documents are not cut

SPLIT is train or heldout.  Held-out documents come from --heldout files, or are chosen by a hash of
their text (--heldout-percent), so that equal texts stay on one side.

Units   tokens; text sizes are bytes of UTF-8.
Errors  ValueError names the file and the fix.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.dataset import FORMAT_VERSION, SPLITS, TokenDataset, window_order
from training.documents import estimate_bytes, find_files, iter_documents
from training.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

__all__ = ["TokenDataset", "window_order", "prepare", "is_heldout", "main"]  # dataset.py holds the reading half

BATCH_CHARACTERS = 1_000_000  # text that one worker tokenizes at a time


# ---- tokenizing ----

_worker_tokenizer: Tokenizer | None = None


def _start_worker(tokenizer_dir: str) -> None:
    """Load the tokenizer once per process.  One process per core: threads share its lock."""
    global _worker_tokenizer
    if parent := multiprocessing.parent_process():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # ... and so is SIGKILL
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = load_tokenizer(tokenizer_dir)


def _tokenize(texts: list[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids of all documents joined, length of each document in tokens, bytes of text)."""
    tokenizer = _worker_tokenizer
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    documents = [bos + ids + tokenizer.eos_ids[:1] for ids in tokenizer.encode_batch(texts)]
    lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
    ids = np.fromiter(itertools.chain.from_iterable(documents), dtype=_dtype(tokenizer.vocab_size),
                      count=int(lengths.sum()))
    return ids, lengths, sum(len(text.encode("utf-8")) for text in texts)


def _dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokenize_all(texts: Iterable[str], tokenizer_dir: Path,
                  workers: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """_tokenize of all batches, in order, with a bounded number of them in flight."""
    if workers == 1:
        _start_worker(str(tokenizer_dir))
        yield from map(_tokenize, _batches(texts))
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the tokenizer library's threads and locks
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (str(tokenizer_dir),))
    try:
        waiting = collections.deque()
        for batch in _batches(texts):
            waiting.append(pool.submit(_tokenize, batch))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# ---- writing ----

class _ShardWriter:
    """Appends documents of one split; a new shard starts where the next document would exceed the limit."""

    def __init__(self, directory: Path, split: str, dtype: np.dtype, max_shard_tokens: int):
        self.directory, self.split, self.dtype, self.limit = directory, split, dtype, max_shard_tokens
        self.shards: list[dict] = []
        self.text_bytes = 0
        self._tokens_file = self._documents_file = None

    def add(self, ids: np.ndarray, lengths: np.ndarray, text_bytes: int) -> None:
        self.text_bytes += text_bytes
        ends = np.cumsum(lengths)
        first = 0
        while first < len(lengths):
            base = int(ends[first] - lengths[first])
            used = self.shards[-1]["tokens"] if self._tokens_file else 0
            last = int(np.searchsorted(ends, base + self.limit - used, side="right"))  # documents that still fit
            if last <= first:
                if used:
                    self.close()
                    continue
                last = first + 1  # one document longer than a shard: keep it whole
            if not self._tokens_file:
                self._open()
            shard = self.shards[-1]
            starts = ends[first:last] - lengths[first:last] - base + shard["tokens"]
            self._documents_file.write(starts.astype("<i8").tobytes())
            self._tokens_file.write(ids[base:int(ends[last - 1])].astype(self.dtype, copy=False).tobytes())
            shard["tokens"] += int(ends[last - 1]) - base
            shard["documents"] += last - first
            first = last

    def _open(self) -> None:
        name = f"{self.split}-{len(self.shards):05d}"
        self.shards.append({"name": name, "tokens": 0, "documents": 0})
        self._tokens_file = open(self.directory / f"{name}.tokens", "wb")
        self._documents_file = open(self.directory / f"{name}.documents", "wb")

    def close(self) -> None:
        for file in (self._tokens_file, self._documents_file):
            if file:
                file.close()
        self._tokens_file = self._documents_file = None

    def summary(self) -> dict:
        return {"tokens": sum(s["tokens"] for s in self.shards), "documents": sum(s["documents"] for s in self.shards),
                "text_bytes": self.text_bytes, "shards": self.shards}


def is_heldout(text: str, percent: float) -> bool:
    """Whether the hash of this text falls into the held-out share."""
    # A hash of its own: a corpus that was itself chosen or ordered by a plain hash must not bias this choice.
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8, person=b"heldout").digest()
    return int.from_bytes(digest, "big") < percent / 100 * 2**64


def _sample(texts: Iterable[str], share: float, seed: int) -> Iterator[str]:
    """Each document with probability `share`; at least the first one."""
    chooser = random.Random(seed)
    for number, text in enumerate(texts):
        if chooser.random() < share or number == 0:
            yield text


def _bar(total: int, text: str) -> tqdm:
    return tqdm(total=total, desc=text, unit="B", unit_scale=True, disable=None, file=sys.stderr)


def prepare(inputs: list[str], out: str | os.PathLike, *, heldout: list[str] | None = None,
            heldout_percent: float = 0.0, tokenizer: str | None = None, vocab_size: int = 8192,
            sample_mb: float = 60.0, key: str = "text", max_shard_tokens: int = 200_000_000, seed: int = 0,
            workers: int | None = None, force: bool = False) -> dict:
    """Tokenize `inputs` into the directory `out` (see the module docstring); returns its metadata."""
    out = Path(out)
    if out.exists() and not force:
        raise ValueError(f"{out}: exists already; choose another --out, or replace it with --force")
    if out.exists() and not (out / "metadata.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: was not written by this command, so --force does not replace it; choose another")
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    files = {"train": find_files(inputs), "heldout": find_files(heldout or [])}

    def texts(split: str) -> Iterator[str]:
        if heldout_percent:
            return (t for t in iter_documents(files["train"], key)
                    if is_heldout(t, heldout_percent) == (split == "heldout"))
        return iter_documents(files[split], key)

    sizes = {split: estimate_bytes(files[split], key) for split in SPLITS}
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        seconds = {}
        start = time.monotonic()
        tokenizer_dir = part / "tokenizer"
        if tokenizer is None:
            share = min(1.0, sample_mb * 1e6 / max(1, sizes["train"]))
            with _bar(round(sizes["train"]), "read a sample") as bar:
                chosen = _sample(_counted(texts("train"), bar), share, seed)
                trained = train_tokenizer(chosen, vocab_size, tokenizer_dir)
            if trained.vocab_size < vocab_size:
                print(f"The sample gives {trained.vocab_size} tokens, not {vocab_size}: add text, raise --sample-mb, "
                      "or set the model's vocab_size accordingly.", file=sys.stderr)
        else:
            _copy_tokenizer(Path(tokenizer), tokenizer_dir)
        seconds["tokenizer"] = round(time.monotonic() - start, 2)
        loaded = load_tokenizer(tokenizer_dir)
        if not loaded.eos_ids:
            raise ValueError(f"{loaded.path}: no end-of-text token; name one in tokenizer_config.json (eos_token)")

        start = time.monotonic()
        splits = {}
        for split in SPLITS:
            size = sizes["train"] * (heldout_percent if split == "heldout" else 100 - heldout_percent) / 100 \
                if heldout_percent else sizes[split]
            writer = _ShardWriter(part, split, _dtype(loaded.vocab_size), max_shard_tokens)
            with _bar(round(size), f"tokenize {split}") as bar:
                for ids, lengths, text_bytes in _tokenize_all(texts(split), tokenizer_dir, workers):
                    writer.add(ids, lengths, text_bytes)
                    bar.update(text_bytes)
            writer.close()
            splits[split] = writer.summary()
        seconds["tokenize"] = round(time.monotonic() - start, 2)
        if not splits["train"]["tokens"]:
            raise ValueError(f"{', '.join(map(str, inputs))}: no training text in there")
        if not splits["heldout"]["tokens"]:
            print("No document was held out, so a run on this data reports no held-out numbers: name files with --heldout, or "
                  "give --heldout-percent, enough for one of the documents.", file=sys.stderr)
        metadata = {"format_version": FORMAT_VERSION, "dtype": _dtype(loaded.vocab_size).name,
                    "vocab_size": loaded.vocab_size, "bos_id": loaded.bos_id, "eos_id": loaded.eos_ids[0],
                    "tokenizer_sha256": hashlib.sha256(loaded.path.read_bytes()).hexdigest(),
                    "seconds": seconds, "splits": splits}
        (part / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        os.rename(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return metadata


def _counted(texts: Iterable[str], bar: tqdm) -> Iterator[str]:
    for text in texts:
        bar.update(len(text))
        yield text


def _copy_tokenizer(source: Path, target: Path) -> None:
    found = load_tokenizer(source)
    target.mkdir()
    shutil.copyfile(found.path, target / found.path.name)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        if (found.path.parent / name).is_file():
            shutil.copyfile(found.path.parent / name, target / name)


# ---- command line ----

def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.data", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "prepare", help="tokenize files into shards", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--input", nargs="+", required=True, metavar="FILE", help="training text: files or folders")
    command.add_argument("--out", required=True, help="directory to write")
    held = command.add_mutually_exclusive_group()
    held.add_argument("--heldout", nargs="+", metavar="FILE", help="held-out text")
    held.add_argument("--heldout-percent", type=float, default=0.0, help="share of the input to hold out")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--tokenizer", metavar="DIR", help="tokenizer to use (a checkpoint directory will do)")
    source.add_argument("--vocab-size", type=int, default=8192, help="entries of a new one (default %(default)s)")
    command.add_argument("--sample-mb", type=float, default=60.0,
                         help="text it is trained on, in MB (default %(default)s)")
    command.add_argument("--text-key", default="text", help="JSON key or parquet column (default %(default)s)")
    command.add_argument("--max-shard-tokens", type=int, default=200_000_000,
                         help="tokens per shard (default %(default)s); one longer document is kept whole")
    command.add_argument("--seed", type=int, default=0, help="of the tokenizer's sample (default %(default)s)")
    command.add_argument("--workers", type=int, help="processes (default: one per core)")
    command.add_argument("--force", action="store_true", help="replace --out")
    args = parser.parse_args(argv)
    if not 0 <= args.heldout_percent < 100:
        command.error(f"--heldout-percent {args.heldout_percent}: give 0 or more, below 100")
    if args.max_shard_tokens < 1 or args.sample_mb <= 0 or (args.workers is not None and args.workers < 1):
        command.error("--max-shard-tokens, --sample-mb and --workers must be above 0")
    try:
        metadata = prepare(args.input, args.out, heldout=args.heldout, heldout_percent=args.heldout_percent,
                           tokenizer=args.tokenizer, vocab_size=args.vocab_size, sample_mb=args.sample_mb,
                           key=args.text_key, max_shard_tokens=args.max_shard_tokens, seed=args.seed,
                           workers=args.workers, force=args.force)
    except (ValueError, OSError, concurrent.futures.BrokenExecutor) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 1
    summary = {split: {k: v for k, v in entry.items() if k != "shards"} | {"shards": len(entry["shards"])}
               for split, entry in metadata["splits"].items()}
    print(json.dumps({"out": args.out, **{k: v for k, v in metadata.items() if k != "splits"}, **summary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
