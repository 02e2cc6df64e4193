"""Recurrent draft heads: the loss and the drafter against the oracle, successors, files, the runner's file, refusals."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export import to_draft
from tests.draft import recurrent_oracle as oracle
from tests.export import model_oracle
from training import evaluate_draft, train_draft
from training.checkpoint import open_checkpoint
from training.draft_config import DraftTrainConfig
from training.drafters import RecurrentDrafter
from training.model import CausalLM
from training.recurrent import RecurrentConfig, RecurrentHead, Successors
from training.recurrent_files import open_recurrent, save_recurrent
from training.recurrent_step import RecurrentStep

V = 320


def settings(checkpoint, data, out, **changes):
    values = dict(kind="recurrent", model=dict(state_size=32, inner_size=48), target=str(checkpoint), data=str(data),
                  out_dir=str(out), successor_pairs=900, most_successors=24, seq_len=32, global_batch_tokens=128, micro_batch_size=2, steps=12,
                  unroll_steps=3, warmup_steps=2, lr=3e-3, device="cpu", log_every=2, checkpoint_every=5) | changes
    return DraftTrainConfig(**values)


def random_head(checkpoint, seed=0):
    """An opened checkpoint and a head with random weights and successors, some tokens without any."""
    opened, rng = open_checkpoint(checkpoint), np.random.default_rng(seed)
    sizes = rng.integers(0, 9, V)
    tokens = np.concatenate([rng.permutation(V)[:n] for n in sizes])
    successors = Successors(torch.tensor([0, *np.cumsum(sizes).tolist()]), torch.from_numpy(tokens))
    head = RecurrentHead(RecurrentConfig(opened.config, state_size=32, inner_size=48), successors)
    head.init_weights(seed)
    with torch.no_grad():
        for parameter in (head.none, head.input_norm.weight):
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return opened, head


def saved(checkpoint, path, **options):
    opened, head = random_head(checkpoint, **options)
    return opened, head, save_recurrent(path / "head", head, opened, torch.float32)


def test_unrolled_loss_is_that_of_drafting_from_every_position(tiny_checkpoint, tmp_path):
    opened, head, path = saved(tiny_checkpoint(tie_word_embeddings=False), tmp_path)
    step = RecurrentStep(head, CausalLM.from_checkpoint(opened), settings("", "", tmp_path, seq_len=12, global_batch_tokens=24),
                         torch.device("cpu"))
    matrices = oracle.from_tensors(load_file(path / "model.safetensors"), opened.config, opened.tensors)
    docs = torch.tensor([[0] * 7 + [1] * 3 + [-1] * 2], dtype=torch.int32)
    ids = torch.randint(V, docs.shape, generator=torch.Generator().manual_seed(0))
    want, right = np.zeros(3), np.zeros(3)
    for first, last in ((0, 7), (7, 10)):
        text = ids[0, first:last].tolist()
        logits, hidden = model_oracle.forward(opened.config, opened.tensors, text)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        for i in range(len(text)):
            state = oracle.start(matrices, hidden[i])
            for k in range(1, 4):
                if i + k >= len(text):
                    break
                state, successors = oracle.advance(matrices, state, text[i + k]), matrices["successors"][text[i + k]]
                log_p, none = oracle.log_p(matrices, state, text[i + k])
                mass = p[i + k][successors]
                want[k - 1] -= (mass * log_p).sum() + (1 - mass.sum()) * none
                right[k - 1] += len(successors) > 0 and successors[int(log_p.argmax())] == p[i + k].argmax()
    total, stats, count = step(ids, docs)
    assert int(count) == 6 + 2 and want.min() > 1
    assert np.abs(stats[0::2].double().numpy() - want).max() <= 2e-5 * want.max()
    assert np.array_equal(stats[1::2].numpy(), right)
    assert abs(float(total.detach()) - sum(0.8**k * want[k] for k in range(3))) <= 5e-5 * want.sum()
    total.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head.parameters())


def test_drafts_of_the_measurement_are_the_head_s(tiny_checkpoint, tmp_path):
    opened, head, path = saved(tiny_checkpoint(), tmp_path)
    matrices = oracle.from_tensors(load_file(path / "model.safetensors"), opened.config, opened.tensors)
    drafter = RecurrentDrafter(open_recurrent(path, opened).module(), CausalLM.from_checkpoint(opened))
    text = torch.randint(V, (1, 9), generator=torch.Generator().manual_seed(1))
    hidden = model_oracle.forward(opened.config, opened.tensors, text[0].tolist())[1]
    drafter.read(text, torch.from_numpy(hidden)[None, :-1].float())
    tree = drafter.start(torch.tensor([0]), torch.tensor([6]))
    state = oracle.advance(matrices, oracle.start(matrices, hidden[4]), int(text[0, 5]))
    got, states, last = tree.root_log_p()[0], tree.root_states[:, None], int(text[0, 5])
    for token in (7, 300, 12):
        want, _ = oracle.log_p(matrices, state, last)
        successors = matrices["successors"][last]
        assert np.abs(got[successors].numpy() - want).max(initial=0) < 1e-4
        assert np.isinf(np.delete(got.numpy(), successors)).all()
        rows, states = tree.grow(torch.tensor([[token]]), states, torch.ones(1, 1, 1, dtype=torch.bool), 1)
        got, state, last = rows[0, 0], oracle.advance(matrices, state, token), token


def test_successors_are_the_most_frequent_pairs():
    rng = np.random.default_rng(0)
    shards = [rng.zipf(1.5, 4000).clip(max=40).astype(np.uint16) - 1, rng.integers(0, 40, 900).astype(np.int64)]
    weights = {}
    for shard, weight in zip(shards, (0.5, 2.0)):
        for pair in zip(shard[:-1].tolist(), shard[1:].tolist()):
            weights[pair] = weights.get(pair, 0) + weight
    made = Successors.most_frequent(shards, [0.5, 2.0], 40, 300, 9)
    best, by_token = sorted(weights, key=lambda pair: (-weights[pair], pair)), {}
    for first, second in best:
        if len(by_token.get(first, [])) < 9 and sum(map(len, by_token.values())) < 300:
            by_token.setdefault(first, []).append(second)
    assert [made.tokens[made.starts[x] : made.starts[x + 1]].tolist() for x in range(40)] == [by_token.get(x, []) for x in range(40)]
    assert made.most == 9 and made.padded().shape == (40, 9)
    assert [row[row >= 0].tolist() for row in made.padded()] == [by_token.get(x, []) for x in range(40)]


def test_training_lowers_the_loss_resumes_and_the_head_is_measured(tiny_checkpoint, draft_data, tmp_path):
    checkpoint = tiny_checkpoint(dim_model_base=160)
    written = dict(generated_tokens=600, generated_length=32, generated_prompt=8)
    config = settings(checkpoint, draft_data, tmp_path / "run", steps=40, **written)
    summary = train_draft.train(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert summary["status"] == "finished" and rows[-1]["ce1"] < 0.9 * rows[0]["ce1"]
    assert train_draft.train(config)["step"] == 40  # nothing left to do
    other = settings(checkpoint, draft_data, tmp_path / "run", steps=40, successor_pairs=800, **written)
    with pytest.raises(ValueError, match="successor_pairs"):
        train_draft.train(other)
    text = tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "the expert reads the token chunk and so it goes on " * 5}) + "\n")
    assert evaluate_draft.main([summary["head"], "--target", str(checkpoint), "--text", str(text), "--prompt-tokens", "12",
                                "--new-tokens", "12", "--depths", "2", "--widths", "1", "3", "--device", "cpu", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "acceptance.json").read_text())
    assert result["kind"] == "recurrent head" and all(row["tokens_per_cycle"] >= 1 for row in result["rows"])


def test_settings_of_one_kind_are_not_those_of_the_other(tmp_path):
    for changes, message in ((dict(kind="gru"), "use one of layer, recurrent"), (dict(model=dict(head_dim=8)), "model.head_dim"),
                             (dict(kind="layer"), "model.state_size"), (dict(most_successors=0), "most_successors=0")):
        with pytest.raises(ValueError, match=message):
            settings("", "", tmp_path, **changes)
    with pytest.raises(ValueError, match="multiple of 16"):
        RecurrentConfig(None, state_size=40, inner_size=48)


CHANGES = {
    "missing": lambda t: t.pop("cell_in.weight"),
    "unexpected: more": lambda t: t.update(more=torch.ones(3)),
    r"misshapen:  none is \[31\]": lambda t: t.update(none=torch.ones(31)),
    "wrong type: cell_out.weight": lambda t: t.update({"cell_out.weight": t["cell_out.weight"].double()}),
    "wrong type: successors is torch.float32": lambda t: t.update(successors=t["successors"].int().float()),
    "does not say how": lambda t: t["successor_counts"].__setitem__(0, 400),
    "names a token that": lambda t: t.update(successors=t["successors"].int() + 300),
    "names a successor twice": lambda t: t.update(successors=torch.zeros_like(t["successors"].int())),
}


@pytest.mark.parametrize("message", CHANGES)
def test_damaged_heads_are_refused(tiny_checkpoint, tmp_path, message):
    opened, _, path = saved(tiny_checkpoint(), tmp_path)
    tensors = {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}
    CHANGES[message](tensors)
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        open_recurrent(path, opened)


def test_a_head_of_another_target_is_refused(tiny_checkpoint, tmp_path, capsys):
    _, _, path = saved(tiny_checkpoint(), tmp_path)
    with pytest.raises(ValueError, match="their fingerprints differ"):
        open_recurrent(path, open_checkpoint(tiny_checkpoint(seed=5)))
    assert to_draft.main([str(path), "--target", str(tiny_checkpoint(seed=5)), "-o", str(tmp_path / "out.draft")]) == 1
    assert "fingerprints differ" in capsys.readouterr().err and not list(tmp_path.glob("out.draft*"))


def test_the_runner_s_file_holds_the_head(tiny_checkpoint, tmp_path, capsys):
    opened, _, path = saved(tiny_checkpoint(tie_word_embeddings=False, scale_emb=7.0), tmp_path)
    assert to_draft.main([str(path), "--target", str(opened.path), "-o", str(tmp_path / "made" / "head.draft")]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    got = oracle.from_file(tmp_path / "made" / "head.draft")
    want = oracle.from_tensors(load_file(path / "model.safetensors"), opened.config, opened.tensors)
    assert got["successors"] == want["successors"] and line["successors"] == sum(map(len, want["successors"]))
    assert got["fingerprint"] == json.loads((path / "config.json").read_text())["target_fingerprint"]
    for name in ("hidden_in", "cell_in", "cell_out", "none", "token_in", "token_out"):
        rows, exact = np.atleast_2d(got[name]), np.atleast_2d(want[name])
        bound = np.abs(exact).max(1, keepdims=True) * (0.5 / 127 + 1e-5)
        assert rows.shape == exact.shape and not (~(np.abs(rows - exact) <= bound)).any(), name


def test_each_command_names_the_other(tiny_checkpoint, published_head, tmp_path, capsys):
    from export import to_executorch

    opened, _, path = saved(tiny_checkpoint(), tmp_path)
    assert to_draft.main([str(published_head()), "--target", str(opened.path), "-o", str(tmp_path / "x.draft")]) == 1
    assert "to_executorch.py" in capsys.readouterr().err
    assert to_executorch.main([str(path), "--target", str(opened.path), "-o", str(tmp_path / "x.pte")]) == 1
    assert "to_draft.py" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
