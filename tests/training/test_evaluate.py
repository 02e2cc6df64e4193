"""Evaluation against one forward pass per predicted token, in float64, and loops over active experts."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import TINY, random_tensors
from training import evaluate as evaluation
from training.checkpoint import open_checkpoint, save_checkpoint
from training.config import ModelConfig
from training.evaluate import evaluate
from training.model import CausalLM
from training.tokenizer import load_tokenizer

TEXTS = ["A chunk reads its experts.", "x", "Naïve café, 你好!", "the end of it"]


def naive_evaluation(path, texts, context, max_tokens=10**9):
    """(nats, tokens, active experts per piece [piece][layer][token] as sets), one prefix at a time."""
    checkpoint = open_checkpoint(path)
    tokenizer = load_tokenizer(path)
    model = CausalLM.from_checkpoint(checkpoint, dtype=torch.float64)
    nats, tokens, pieces = 0.0, 0, []
    with torch.no_grad():
        for text in texts:
            ids = [1] + tokenizer.encode(text) + [2]
            for position in range(1, len(ids)):
                if tokens == max_tokens:
                    return nats, tokens, pieces
                start = (position - 1) // context * context  # a piece knows nothing of the one before it
                output = model(torch.tensor([ids[start:position]]))
                logits = (output.hidden[0, -1] / (checkpoint.config.hidden_size / checkpoint.config.dim_model_base)
                          @ model.head_weight.t()).numpy()
                top = logits.max()
                nats += top + math.log(np.exp(logits - top).sum()) - logits[ids[position]]
                tokens += 1
                if output.raw_scores[0] is None:
                    continue
                if position - 1 == start:
                    pieces.append([[] for _ in output.raw_scores])
                for layer, raw in enumerate(output.raw_scores):
                    pieces[-1][layer].append({e for e, r in enumerate(raw[0, -1].tolist()) if r > 0})
    return nats, tokens, pieces


def naive_cls(pieces, layer, experts, chunk_len):
    shares = [1 - len(set().union(*piece[layer][s:s + chunk_len])) / experts
              for piece in pieces for s in range(0, len(piece[layer]) - chunk_len + 1, chunk_len)]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("flavour", [
    dict(), dict(attention_type="vanilla", ffn_type="vanilla", tie_word_embeddings=False, num_key_value_heads=2)])
@pytest.mark.parametrize("context, batch_tokens", [(1000, 1), (9, 1), (9, 60), (1000, 10_000)])
def test_equals_one_pass_per_token(tiny_checkpoint, flavour, context, batch_tokens):
    path = tiny_checkpoint(**flavour)
    checkpoint = open_checkpoint(path)
    nats, tokens, pieces = naive_evaluation(path, TEXTS, context)
    result, excerpt = evaluate(checkpoint, load_tokenizer(path), TEXTS, context=context, batch_tokens=batch_tokens)
    assert result["tokens"] == tokens and result["documents"] == len(TEXTS)
    assert result["text_bytes"] == sum(len(text.encode()) for text in TEXTS)
    # float32 against float64: logits of order 10 through 2 layers, summed in float64
    assert abs(result["loss_nats"] - nats / tokens) <= 1e-4
    assert abs(result["perplexity"] / math.exp(nats / tokens) - 1) <= 2e-4
    assert abs(result["bits_per_byte"] - nats / math.log(2) / result["text_bytes"]) <= 1e-3
    if not checkpoint.config.is_block_ffn:
        assert "sparsity" not in result and excerpt is None
        return
    E = checkpoint.config.num_experts
    sparsity = result["sparsity"]
    assert sparsity["tokens"] == tokens and sparsity["pieces"] == len(pieces)
    for layer, row in enumerate(sparsity["per_layer"]):
        # a raw score within rounding of 0 may differ between float32 and float64: one token of ~100, one expert of 6
        assert abs(row["tls"] - naive_cls(pieces, layer, E, 1)) <= 1.01 / (tokens * E)
        assert abs(row["cls8"] - naive_cls(pieces, layer, E, 8)) <= 1e-9 + (context == 1000) * 1.01 / (6 * E)
    longest = max(pieces, key=lambda piece: len(piece[0])) if context == 1000 else pieces[0]
    assert excerpt.scores_LTE.shape == (len(pieces[0]), len(longest[0]), E)
    differing = sum((excerpt.scores_LTE[l, t, e].item() > 0) != (e in longest[l][t])
                    for l in range(len(longest)) for t in range(len(longest[0])) for e in range(E))
    assert differing <= 1
    assert excerpt.tokens[0] == "" and "".join(excerpt.tokens).startswith("A chunk")


def test_stops_at_max_tokens(tiny_checkpoint):
    path = tiny_checkpoint()
    for limit in (1, 5, 40):
        nats, tokens, _ = naive_evaluation(path, TEXTS, 16, limit)
        result, _ = evaluate(open_checkpoint(path), load_tokenizer(path), TEXTS, context=16, max_tokens=limit)
        assert result["tokens"] == tokens == limit
        assert abs(result["loss_nats"] - nats / tokens) <= 1e-4
    first = len(load_tokenizer(path).encode(TEXTS[0]))
    cut, _ = evaluate(open_checkpoint(path), load_tokenizer(path), TEXTS, max_tokens=first // 2)
    assert 0 < cut["text_bytes"] < len(TEXTS[0])  # only the text that was predicted counts


def test_uniform_model_has_the_perplexity_of_its_vocabulary(tiny_tokenizer, tmp_path):
    config = ModelConfig.from_dict(TINY | {"tie_word_embeddings": False})
    tensors = random_tensors(config)
    tensors["lm_head.weight"] = torch.zeros_like(tensors["lm_head.weight"])
    save_checkpoint(tmp_path / "m", config, tensors, tokenizer_dir=tiny_tokenizer)
    result, _ = evaluate(open_checkpoint(tmp_path / "m"), load_tokenizer(tmp_path / "m"), TEXTS)
    assert result["perplexity"] == pytest.approx(TINY["vocab_size"], rel=1e-5)


def test_command_line(tiny_checkpoint, tmp_path, capsys):
    path = tiny_checkpoint()
    text = tmp_path / "held.jsonl"
    text.write_text("".join(json.dumps({"text": t * 30}) + "\n" for t in TEXTS))
    arguments = [str(path), "--text", str(text), "--out", str(tmp_path / "out"), "--device", "cpu", "--context", "200"]
    assert evaluation.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert last == json.loads((tmp_path / "out/evaluation.json").read_text())
    assert last["documents"] == 4 and len(last["sparsity"]["cls_curve"]) == 64 and last["context"] == 200
    assert any("perplexity" in line for line in lines[:-1])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["evaluation.json", "evaluation.png"]
    picture = np.asarray(Image.open(tmp_path / "out/evaluation.png").convert("RGB"))
    assert picture.shape[0] > 800 and picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_command_line_dense(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("some text")
    path = tiny_checkpoint(ffn_type="vanilla")
    assert evaluation.main([str(path), "--text", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")]) == 0
    assert "sparsity" not in json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize("case, message", [
    ("absent", "not a directory"), ("no tokenizer", "--tokenizer"), ("large tokenizer", "tokens but the model only"),
    ("no text", "no such file"), ("empty text", "no text"), ("nan", "not finite"), ("nan dense", "not finite")])
def test_failures_are_sentences(tiny_checkpoint, tiny_tokenizer, tmp_path, capsys, case, message):
    text = tmp_path / "a.txt"
    text.write_text("" if case == "empty text" else "words and words")
    config = ModelConfig.from_dict(TINY | ({"ffn_type": "vanilla"} if case == "nan dense" else {}))
    tensors = random_tensors(config)
    if case.startswith("nan"):
        tensors["model.layers.1.input_layernorm.weight"][3] = math.nan
    if case == "large tokenizer":
        config = ModelConfig.from_dict(TINY | {"vocab_size": 10})
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:10]
    path = tmp_path / "model"
    if case != "absent":
        save_checkpoint(path, config, tensors, tokenizer_dir=None if case == "no tokenizer" else tiny_tokenizer)
    if case == "no text":
        text.unlink()
    assert evaluation.main([str(path), "--text", str(text), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err and captured.out == ""
    assert not (tmp_path / "out").exists()


def test_bad_arguments(tiny_checkpoint, capsys):
    for wrong in (["--context", "0"], ["--max-tokens", "-1"], ["--dtype", "int8"], []):
        with pytest.raises(SystemExit) as caught:
            evaluation.main([str(tiny_checkpoint()), *(["--text", "x.txt", *wrong] if wrong else [])])
        assert caught.value.code == 2


def test_a_failed_picture_leaves_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    def fail(part, *_):
        part.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr("training.figures.draw_evaluation", fail)
    (tmp_path / "a.txt").write_text("some text")
    assert evaluation.main([str(tiny_checkpoint()), "--text", str(tmp_path / "a.txt"),
                            "--out", str(tmp_path / "out")]) == 1
    assert not list((tmp_path / "out").glob("*"))


def test_many_layers_and_odd_sizes_can_be_drawn(tmp_path):
    from training.figures import draw_evaluation
    from training.sparsity import SparsityMeter

    generator = torch.Generator().manual_seed(0)
    for layers, tokens, experts, shift in ((35, 256, 56, -0.8), (1, 1, 1, 0.0), (2, 9, 5, -99.0), (3, 100, 7, 99.0)):
        scores = torch.randn(layers, tokens, experts, generator=generator) + shift  # few, none or all active
        meter = SparsityMeter(layers, experts)
        meter.add(scores)
        names = [["$x$", " word", "\n", "", "日本", "a_b^{", "\\frac", "\ufffd"][i % 8] for i in range(tokens)]
        draw_evaluation(tmp_path / "a.png", "title", meter.result(), evaluation.Excerpt(names, scores))
        assert Image.open(tmp_path / "a.png").size[0] > 1000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(tiny_checkpoint):
    path = tiny_checkpoint()
    results = [evaluate(open_checkpoint(path), load_tokenizer(path), TEXTS * 5, device=device)[0]
               for device in ("cpu", "cuda")]
    assert abs(results[0]["loss_nats"] - results[1]["loss_nats"]) <= 1e-4
    assert abs(results[0]["sparsity"]["tls"] - results[1]["sparsity"]["tls"]) <= 1e-3
