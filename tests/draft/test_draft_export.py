"""Draft heads as programs: the oracle of the layout, trees that grow over calls, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export import to_executorch
from export.draft_decoder import DraftDecoder
from export.draft_quality import LEVELS, golden_calls
from runtime_delegates.draft_session import DraftSession
from runtime_delegates.session import Session
from tests.draft import draft_oracle
from training.checkpoint import open_checkpoint
from training.draft_files import fingerprint, open_draft

CONTEXT = 96


def export(head, target, output, *options):
    return to_executorch.main([str(head), "--target", str(target), "-o", str(output), "--max-context", str(CONTEXT),
                               *options])


def inputs(rows, D=48, vocab_size=320, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(vocab_size, (rows,), generator=generator).tolist(),
            torch.randn(rows, D, generator=generator))


def close(got, want, bound=3e-5):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want)
    assert got.shape == want.shape
    assert not (~(np.abs(got - want) <= bound * np.abs(want).max(axis=-1, keepdims=True))).any()


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_checkpoint, published_head, backend):
    """exported(quant, target options, **head options) -> (head, target, session); each is made once."""
    made = {}

    def make(quant="fp32", target=None, **options):
        key = json.dumps([quant, target, options])
        if key not in made:
            checkpoint, head = tiny_checkpoint(**(target or {})), published_head(**options)
            output = tmp_path_factory.mktemp("program") / "draft.pte"
            assert export(head, checkpoint, output, "--quant", quant) == 0
            made[key] = head, checkpoint, DraftSession(output)
        return made[key]

    return make


VARIANTS = {
    "one layer": {},
    "two layers, untied": dict(num_hidden_layers=2, target=dict(tie_word_embeddings=False)),
    "scaled positions": dict(target=dict(rope_scaling={"type": "linear", "factor": 2.0})),
    "one kv head": dict(num_key_value_heads=1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_float_program_is_the_published_head(exported, variant):
    """A prefix, then a tree that grows over three calls: every row against the float64 oracle."""
    head, checkpoint, session = exported(**VARIANTS[variant])
    target, sizes = open_checkpoint(checkpoint), json.loads((head / "config.json").read_text())
    parents, before = list(range(-1, 19)), 0
    for level in LEVELS:
        parents += [20 + parent if parent >= 0 else 19 for parent in level]
    ids, hidden = inputs(len(parents))
    want_logits, want_h = draft_oracle.forward(sizes, load_file(head / "model.safetensors"), target.config,
                                               target.tensors, ids, hidden, parents)
    logits, h = session.step(ids[:20], hidden[:20], 0)
    close(logits, want_logits[:20])
    close(h, want_h[:20])
    for level in LEVELS:
        start, masks, positions = 20 + before, [], []
        for i in range(len(level)):
            path, node = [], start + i
            while node >= 20:
                path.append(node - 20)
                node = parents[node]
            masks.append(sum(1 << node for node in path))
            positions.append(19 + len(path))
        rows = slice(start, start + len(level))
        logits, h = session.step(ids[rows], hidden[rows], start, before, positions, masks)
        close(logits, want_logits[rows])
        close(h, want_h[rows])
        before += len(level)


def test_rows_do_not_depend_on_the_calls_that_they_came_in(exported):
    """To the bit: in one chunk or in several, as a chain or as levels of a tree, and after a tree was dropped."""
    _, _, session = exported("int8")
    ids, hidden = inputs(30)
    whole = session.step(ids, hidden, 0)
    parts = [session.step(ids[a:b], hidden[a:b], a) for a, b in ((0, 7), (7, 8), (8, 24))]
    for i in range(24, 30):  # a chain of tree levels
        parts.append(session.step(ids[i : i + 1], hidden[i : i + 1], i, i - 24))
    again = session.step(ids[24:], hidden[24:], 24)
    for k in range(2):
        assert torch.equal(torch.cat([part[k] for part in parts]), whole[k])
        assert torch.equal(again[k], whole[k][24:])


def test_logits_start_skips_rows(exported):
    _, _, session = exported()
    ids, hidden = inputs(5)
    all_logits, h = session.step(ids, hidden, 0)
    logits, same_h = session.step(ids, hidden, 0, logits_start=4)
    assert torch.equal(h, same_h) and torch.equal(logits[4], all_logits[4]) and not logits[:4].any()


def test_metadata_name_the_target(exported, tmp_path):
    head, checkpoint, session = exported()
    target = open_checkpoint(checkpoint)
    assert session.token_id_remap.tolist() == load_file(head / "model.safetensors")["token_id_remap"].tolist()
    assert (session.max_context, session.vocab_size, session.hidden_size) == (CONTEXT, 320, 48)
    assert to_executorch.main([str(checkpoint), "-o", str(tmp_path / "model.pte"), "--check", "none"]) == 0
    model = Session(tmp_path / "model.pte")
    assert model._loaded.constant("get_model_fingerprint") == session.fingerprint == fingerprint(
        target.tensors, target.config)
    with pytest.raises(RuntimeError, match="not exported by export/to_executorch.py as a model"):
        Session(session.path)
    with pytest.raises(RuntimeError, match="not exported by export/to_executorch.py as a draft head"):
        DraftSession(tmp_path / "model.pte")


@pytest.mark.parametrize("arguments, problem", [
    (dict(tree_rows=-1), "tree_rows must be"),
    (dict(tree_rows=9), "tree_rows must be"),
    (dict(tree_rows=63, n_past=63, rows=2), "tree_rows must be"),
    (dict(tree_rows=2, tree_mask=[0b0111, 0b0111]), "must see itself"),
    (dict(tree_rows=2, tree_mask=[0b1111, 0b1111]), "sees a later one"),
    (dict(n_past=9), "no earlier call has written"),
    (dict(rows=1, token_ids=[320]), "vocabulary"),
    (dict(rows=1, hidden_TD=torch.full((1, 48), float("nan"))), "finite"),
])
def test_calls_out_of_range_are_refused(exported, arguments, problem):
    _, _, session = exported()
    session.step(*inputs(63), 0)
    session.step(*inputs(8), 0)  # n_past may go back: rows after it are no longer there
    rows, n_past = arguments.pop("rows", 2), arguments.pop("n_past", 8)
    if n_past == 63:
        session.step(*inputs(63), 0)
    ids, hidden = inputs(rows)
    arguments = dict(token_ids=ids, hidden_TD=hidden, n_past=n_past) | arguments
    with pytest.raises(RuntimeError, match=problem):
        session.step(**arguments)


REFUSED = {
    "hidden size": (dict(D=40), "misshapen:  fc.bias is .40."),
    "vocabulary": (dict(config={"vocab_size": 999}), "vocab_size 999, .* has 320"),
    "larger vocabulary": (dict(change=lambda t: t["token_id_remap"].__setitem__(0, 320)), "names token 320"),
    "negative token": (dict(change=lambda t: t["token_id_remap"].__setitem__(0, -1)), "names token -1"),
    "token twice": (dict(change=lambda t: t["token_id_remap"].__setitem__(0, int(t["token_id_remap"][1]))),
                    "twice"),
    "tokenizer": (dict(config={"tokenizer_sha256": "0" * 64}), "another tokenizer"),
    "fingerprint": (dict(config={"target_fingerprint": 1}), "another target"),
    "missing tensor": (dict(change=lambda t: t.pop("fc.bias")), "missing:    fc.bias"),
    "extra tensor": (dict(change=lambda t: t.update(extra=torch.zeros(2))), "unexpected: extra"),
    "integer weights": (dict(change=lambda t: t.update({"fc.bias": torch.zeros(48, dtype=torch.int32)})),
                        "wrong type: fc.bias"),
    "float remap": (dict(change=lambda t: t.update(token_id_remap=t["token_id_remap"].float())), "expected int32"),
    "sizes": (dict(config={"num_attention_heads": 3}), "num_key_value_heads=2"),
    "NaN": (dict(change=lambda t: t["fc.weight"].__setitem__((0, 0), float("nan"))), "NaN or infinite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_heads_of_other_targets_and_damaged_ones_are_refused(case, published_head, tiny_checkpoint, tmp_path, capsys):
    options, problem = REFUSED[case]
    output = tmp_path / "out" / "draft.pte"
    assert export(published_head(**options), tiny_checkpoint(), output, "--check", "none") == 1
    error = capsys.readouterr().err
    assert error.startswith("export failed: ") and re.search(problem, error, re.DOTALL), error
    assert not output.parent.exists()


def test_a_head_is_no_model(published_head, tiny_checkpoint, tmp_path, capsys):
    assert to_executorch.main([str(published_head()), "-o", str(tmp_path / "x.pte")]) == 1
    assert "--target" in capsys.readouterr().err
    assert export(tiny_checkpoint(), tiny_checkpoint(), tmp_path / "x.pte") == 1
    assert "not a draft head" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export(published_head(), tmp_path / "nowhere", tmp_path / "x.pte")
    assert "not a directory" in capsys.readouterr().err


def test_eager_decoder_refuses_short_contexts(published_head, tiny_checkpoint):
    target = open_checkpoint(tiny_checkpoint())
    with pytest.raises(ValueError, match="shorter than one chunk"):
        DraftDecoder(open_draft(published_head(), target), target, "fp32", 63)
    assert golden_calls()[-1].n_past == 24
