"""Shards and windows against lists of tokens built document by document; damage, limits, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tokenizers
import torch

from training import data
from training.data import TokenDataset, is_heldout, prepare, window_order
from training.documents import estimate_bytes, find_files, iter_documents
from training.tokenizer import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["Short.", "A longer document. " * 40, "日本語 🙂\r\nlines\n", "x", "</s> in text <s>", "def f():\n\treturn 1\n" * 9,
             "the last one " * 25]
BOS, EOS = 1, 2
GOLDEN_ORDER = [879, 18, 752, 778]


@pytest.fixture(scope="module")
def tokenizer_dir(tiny_tokenizer):
    return str(tiny_tokenizer)


def write_files(directory, kind, documents=DOCUMENTS):
    directory.mkdir(parents=True, exist_ok=True)
    if kind == "txt":
        for i, text in enumerate(documents):
            (directory / f"{i:03d}.{'md' if i % 2 else 'txt'}").write_bytes(text.encode())
        return [str(directory)]
    if kind == "jsonl":
        lines = [json.dumps({"text": text, "other": 1}, ensure_ascii=i % 2 == 0) for i, text in enumerate(documents)]
        (directory / "a.jsonl").write_text("\n".join(lines[:3]) + "\n\n", encoding="utf-8", newline="\n")
        (directory / "b.jsonl").write_text("\n".join(lines[3:]), encoding="utf-8", newline="\n")
        return [str(directory / "a.jsonl"), str(directory / "b.jsonl")]
    pyarrow.parquet.write_table(pyarrow.table({"path": ["p"] * len(documents), "text": documents}),
                                directory / "a.parquet", row_group_size=3)
    return [str(directory / "a.parquet")]


def token_lists(tokenizer_dir, documents=DOCUMENTS):
    tokenizer = load_tokenizer(tokenizer_dir)
    return [[BOS] + tokenizer.encode(text) + [EOS] for text in documents]


def naive_windows(lists, seq_len):
    """[(ids, documents)] with padding (EOS, -1), by walking one token at a time."""
    ids = [i for tokens in lists for i in tokens]
    docs = [d for d, tokens in enumerate(lists) for _ in tokens]
    windows, start = [], 0
    while start < len(ids) - 1:
        pad = max(0, start + seq_len + 1 - len(ids))
        windows.append((ids[start:start + seq_len + 1] + [EOS] * pad, docs[start:start + seq_len + 1] + [-1] * pad))
        start += seq_len
    return windows


def check_windows(dataset, lists):
    want = naive_windows(lists, dataset.seq_len)
    assert len(dataset) == len(want)
    ids, docs = dataset.batch(range(len(want)))
    assert ids.dtype == torch.int64 and docs.dtype == torch.int32
    assert ids.tolist() == [window for window, _ in want]
    assert docs.tolist() == [documents for _, documents in want]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
@pytest.mark.parametrize("limit", [1, 50, 10**6])
def test_windows_equal_the_lists(tmp_path, tokenizer_dir, kind, limit):
    inputs = write_files(tmp_path / "in", kind)
    metadata = prepare(inputs, tmp_path / "out", tokenizer=tokenizer_dir, max_shard_tokens=limit, workers=1)
    lists = token_lists(tokenizer_dir)
    shards = metadata["splits"]["train"]["shards"]
    assert metadata["splits"]["train"]["tokens"] == sum(map(len, lists)) == sum(s["tokens"] for s in shards)
    assert metadata["splits"]["train"]["documents"] == len(DOCUMENTS)
    assert metadata["splits"]["train"]["text_bytes"] == sum(len(text.encode()) for text in DOCUMENTS)
    assert all(s["tokens"] <= limit or s["documents"] == 1 for s in shards)
    assert len(shards) == {1: len(DOCUMENTS), 10**6: 1}.get(limit, len(shards)) and (limit != 50 or len(shards) > 2)
    for seq_len in (1, 2, 7, 64, 5000):
        check_windows(TokenDataset(tmp_path / "out", "train", seq_len), lists)


def test_some_windows_in_any_order(tmp_path, tokenizer_dir):
    prepare(write_files(tmp_path / "in", "txt"), tmp_path / "out", tokenizer=tokenizer_dir, max_shard_tokens=60,
            workers=1)
    dataset = TokenDataset(tmp_path / "out", "train", 16)
    whole, _ = dataset.batch(range(len(dataset)))
    picked, _ = dataset.batch(np.array([5, 0, 5, len(dataset) - 1]))
    assert torch.equal(picked, whole[[5, 0, 5, len(dataset) - 1]])
    assert dataset.batch([])[0].shape == (0, 17)
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError, match=f"window {index}"):
            dataset.batch([index])


def test_workers_keep_the_order(tmp_path, tokenizer_dir, monkeypatch):
    documents = [f"document {i} " * (i % 13 + 1) for i in range(60)]
    inputs = write_files(tmp_path / "in", "parquet", documents)
    monkeypatch.setattr(data, "BATCH_CHARACTERS", 200)
    prepare(inputs, tmp_path / "one", tokenizer=tokenizer_dir, workers=1, max_shard_tokens=300)
    prepare(inputs, tmp_path / "two", tokenizer=tokenizer_dir, workers=2, max_shard_tokens=300)
    files = sorted(p.name for p in (tmp_path / "one").glob("train*"))
    assert len(files) > 4
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    check_windows(TokenDataset(tmp_path / "two", "train", 32), token_lists(tokenizer_dir, documents))


def test_held_out_files(tmp_path, tokenizer_dir):
    held = write_files(tmp_path / "held", "jsonl", DOCUMENTS[:4])
    prepare(write_files(tmp_path / "in", "txt"), tmp_path / "out", heldout=held, tokenizer=tokenizer_dir, workers=1)
    check_windows(TokenDataset(tmp_path / "out", "heldout", 20), token_lists(tokenizer_dir, DOCUMENTS[:4]))
    check_windows(TokenDataset(tmp_path / "out", "train", 20), token_lists(tokenizer_dir))


def test_held_out_percent(tmp_path, tokenizer_dir):
    documents = [f"text number {i}" for i in range(400)] * 2  # every text twice: both copies on one side
    prepare(write_files(tmp_path / "in", "parquet", documents), tmp_path / "out", heldout_percent=20,
            tokenizer=tokenizer_dir, workers=1)
    held = [text for text in documents if is_heldout(text, 20)]
    assert 0.13 < len(held) / len(documents) < 0.27
    check_windows(TokenDataset(tmp_path / "out", "heldout", 50), token_lists(tokenizer_dir, held))
    rest = [text for text in documents if text not in set(held)]
    check_windows(TokenDataset(tmp_path / "out", "train", 50), token_lists(tokenizer_dir, rest))


def test_a_corpus_without_held_out_text_is_mentioned(tmp_path, tokenizer_dir, capsys):
    files = write_files(tmp_path / "in", "jsonl", ["one text", "another text"])
    for number, percent in enumerate((0, 0.001)):
        prepare(files, tmp_path / f"out{number}", heldout_percent=percent, tokenizer=tokenizer_dir, workers=1)
        assert "--heldout-percent" in capsys.readouterr().err
    prepare(files, tmp_path / "with", heldout=files, tokenizer=tokenizer_dir, workers=1)
    assert not capsys.readouterr().err


def test_a_tokenizer_is_trained_on_training_text_only(tmp_path, capsys):
    documents = [f"alpha beta gamma {i % 7} delta" for i in range(200)]
    held = write_files(tmp_path / "held", "jsonl", ["qqqqzz " * 500])
    metadata = prepare(write_files(tmp_path / "in", "parquet", documents), tmp_path / "out", heldout=held,
                       vocab_size=275, workers=1)
    assert metadata["vocab_size"] == 275
    tokenizer = load_tokenizer(tmp_path / "out/tokenizer")
    assert len(tokenizer.encode("alpha")) < 5 and len(tokenizer.encode("qqqqzz")) == 6
    assert TokenDataset(tmp_path / "out", "train", 8).vocab_size == 275
    prepare(write_files(tmp_path / "in", "parquet", ["tiny"]), tmp_path / "small", vocab_size=5000, workers=1)
    assert "not 5000" in capsys.readouterr().err


def test_large_vocabularies_use_four_bytes(tmp_path):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, 70_000)}
    big = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    big.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "tok").mkdir()
    big.save(str(tmp_path / "tok/tokenizer.json"))
    metadata = prepare(write_files(tmp_path / "in", "jsonl", ["w69999 w3", "w65536", "w65535", "w9", "w8"]),
                       tmp_path / "out", tokenizer=str(tmp_path / "tok"), workers=1)
    assert metadata["dtype"] == "uint32"
    ids, _ = TokenDataset(tmp_path / "out", "train", 100).batch([0])
    assert ids[0, :16].tolist() == [1, 69999, 3, 2, 1, 65536, 2, 1, 65535, 2, 1, 9, 2, 1, 8, 2]


# ---- documents ----

def test_empty_documents_are_left_out_and_half_surrogates_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ""}\n{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude42"}\n')
    assert list(iter_documents([path])) == ["a\ufffdb", "🙂"]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None, "", "y"]}), tmp_path / "a.parquet")
    assert list(iter_documents([tmp_path / "a.parquet"])) == ["x", "y"]


@pytest.mark.parametrize("name, content, message", [
    ("a.txt", b"ok\xff", "not UTF-8 at byte 2"),
    ("a.jsonl", b'{"text": "a"}\n{"text": 3}\n', r"a.jsonl:2: expected one JSON object"),
    ("a.jsonl", b'{"text": "a"}\nnot json\n', r"a.jsonl:2"),
    ("a.jsonl", b'["text"]\n', r"a.jsonl:1"),
    ("a.jsonl", b'{"text": "\xff"}\n', r"a.jsonl:1"),
    ("a.parquet", b"PAR1 not really", "not a whole parquet file"),
    ("a.csv", b"x", "unknown kind of file"),
])
def test_damaged_inputs_name_the_place(tmp_path, tokenizer_dir, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        prepare([str(tmp_path / name)], tmp_path / "out", tokenizer=tokenizer_dir, workers=1)
    assert not list(tmp_path.glob("out*"))


def test_parquet_columns_are_checked(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    assert list(iter_documents([tmp_path / "a.parquet"], key="body")) == ["x"]
    with pytest.raises(ValueError, match="no column 'text'; it has body, n"):
        list(iter_documents([tmp_path / "a.parquet"]))
    with pytest.raises(ValueError, match="is int64, not string"):
        list(iter_documents([tmp_path / "a.parquet"], key="n"))


def test_folders_and_sizes(tmp_path):
    write_files(tmp_path / "in/b", "txt", ["bb"])
    write_files(tmp_path / "in/a", "jsonl", ["x", "y", "z", "w"])
    files = find_files([tmp_path / "in"])
    assert [p.name for p in files] == ["a.jsonl", "b.jsonl", "000.txt"]
    assert estimate_bytes(files) == sum(p.stat().st_size for p in files)
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "holds no"), (tmp_path / "absent.txt", "no such file")):
        with pytest.raises(ValueError, match=message):
            find_files([path])


# ---- damage and limits ----

def test_damaged_shards_are_reported(tmp_path, tokenizer_dir):
    prepare(write_files(tmp_path / "in", "txt"), tmp_path / "out", tokenizer=tokenizer_dir, workers=1)
    for name in ("train-00000.tokens", "train-00000.documents"):
        whole = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).write_bytes(whole[:-2])
        with pytest.raises(ValueError, match=f"{name}: {len(whole) - 2} bytes long instead of {len(whole)}"):
            TokenDataset(tmp_path / "out", "train", 8)
        (tmp_path / "out" / name).unlink()
        with pytest.raises(ValueError, match=f"{name}: missing"):
            TokenDataset(tmp_path / "out", "train", 8)
        (tmp_path / "out" / name).write_bytes(whole)
    with pytest.raises(ValueError, match="'heldout' is empty"):
        TokenDataset(tmp_path / "out", "heldout", 8)
    with pytest.raises(ValueError, match="none of train, heldout"):
        TokenDataset(tmp_path / "out", "test", 8)
    with pytest.raises(ValueError, match="seq_len=0"):
        TokenDataset(tmp_path / "out", "train", 0)
    (tmp_path / "out/metadata.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        TokenDataset(tmp_path / "out", "train", 8)
    with pytest.raises(ValueError, match="training.data prepare"):
        TokenDataset(tmp_path, "train", 8)


def test_existing_output_needs_force_and_foreign_output_stays(tmp_path, tokenizer_dir):
    inputs = write_files(tmp_path / "in", "txt")
    prepare(inputs, tmp_path / "out", tokenizer=tokenizer_dir, workers=1)
    with pytest.raises(ValueError, match="--force"):
        prepare(inputs, tmp_path / "out", tokenizer=tokenizer_dir, workers=1)
    prepare(inputs, tmp_path / "out", tokenizer=tokenizer_dir, workers=1, max_shard_tokens=50, force=True)
    check_windows(TokenDataset(tmp_path / "out", "train", 30), token_lists(tokenizer_dir))
    with pytest.raises(ValueError, match="does not replace it"):
        prepare(inputs, tmp_path / "in", tokenizer=tokenizer_dir, workers=1, force=True)
    assert len(list((tmp_path / "in").iterdir())) == len(DOCUMENTS)


# ---- order of training samples ----

@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 1000])
def test_every_epoch_is_a_permutation_of_its_own(n):
    epochs = [window_order(n, 5, epoch * n, n).tolist() for epoch in range(4)]
    assert all(sorted(order) == list(range(n)) for order in epochs)
    if n >= 64:
        assert len({tuple(order) for order in epochs}) == 4
        assert window_order(n, 6, 0, n).tolist() != epochs[0]
        assert sum(i == v for i, v in enumerate(epochs[0])) < n / 8  # not the identity
    joined = [v for order in epochs for v in order]
    for start, count in ((0, 4 * n), (n // 2, 2 * n), (3 * n - 1, 1), (2 * n, 0)):
        assert window_order(n, 5, start, count).tolist() == joined[start:start + count]


def test_order_is_stable_between_versions():
    """A resumed run must not change its data: these numbers may never change."""
    assert window_order(1000, 1, 998, 4).tolist() == GOLDEN_ORDER


def test_order_is_even():
    """The first eighth of an epoch is spread over the corpus: chi-square over 16 bins, mean 15, sd 5.5."""
    statistics = []
    for seed in range(20):
        counts = Counter((window_order(65_521, seed, 0, 8192) * 16 // 65_521).tolist())
        statistics.append(sum((counts[b] - 512) ** 2 / 512 for b in range(16)))
    assert 9 < sum(statistics) / 20 < 21 and max(statistics) < 45


def test_order_of_a_huge_corpus_needs_no_table():
    order = window_order(10**12, 3, 5 * 10**11, 1000)
    assert len(set(order.tolist())) == 1000 and 0 <= order.min() and order.max() < 10**12
    with pytest.raises(ValueError, match="at least one"):
        window_order(0, 1, 0, 1)


# ---- command line ----

def command(*args):
    return [sys.executable, "-m", "training.data", "prepare", *map(str, args)]


def test_command_line(tmp_path, tokenizer_dir, capsys):
    inputs = write_files(tmp_path / "in", "jsonl")
    arguments = ["prepare", "--input", *inputs, "--out", str(tmp_path / "out"), "--workers", "1",
                 "--tokenizer", tokenizer_dir]
    assert data.main(arguments) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["train"]["tokens"] == sum(map(len, token_lists(tokenizer_dir))) and last["heldout"]["tokens"] == 0
    assert data.main(arguments) == 1  # exists
    assert "--force" in capsys.readouterr().err
    for wrong in (["--vocab-size", "300"], ["--heldout-percent", "100"], ["--workers", "0"], ["--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            data.main(arguments + wrong)
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        data.main(["prepare", "--help"])
    assert caught.value.code == 0 and "python -m training.data prepare --input" in capsys.readouterr().out


def test_interrupted_or_killed_nothing_is_left_behind(tmp_path, tokenizer_dir):
    inputs = write_files(tmp_path / "in", "parquet", ["some words in a document " * 400] * 3000)
    arguments = command("--input", *inputs, "--out", tmp_path / "out", "--tokenizer", tokenizer_dir, "--workers", 2)

    def start_and_wait_for_shards():
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out.part/train-00000.tokens")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return process, children

    process, children = start_and_wait_for_shards()
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "interrupted" in error
    assert not list(tmp_path.glob("out*"))

    process, children = start_and_wait_for_shards()
    process.kill()
    process.communicate(timeout=120)
    assert not (tmp_path / "out").exists()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):  # orphans would run on forever
        assert time.monotonic() < deadline
        time.sleep(0.05)

    small = write_files(tmp_path / "small", "txt")  # the next run clears what the killed one left
    prepare(small, tmp_path / "out", tokenizer=tokenizer_dir, workers=1)
    assert not (tmp_path / "out.part").exists()
    check_windows(TokenDataset(tmp_path / "out", "train", 30), token_lists(tokenizer_dir))
