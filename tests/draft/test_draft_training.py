"""Training of draft heads: the unrolled loss against the oracle, borders, resuming, the time limit, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.draft import draft_oracle
from tests.export import model_oracle
from training import train_draft
from training.checkpoint import open_checkpoint
from training.dataset import TokenDataset
from training.draft import DraftConfig, DraftHead
from training.draft_config import DraftTrainConfig
from training.draft_data import draft_batch, draft_vocabulary, text_lengths
from training.draft_files import open_draft, save_draft
from training.draft_step import DraftStep
from training.draft_trainer import DraftTrainer
from training.model import CausalLM

ROOT = Path(__file__).resolve().parents[2]
MODEL = dict(intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=12)


def settings(checkpoint, data, out, **changes):
    values = dict(target=str(checkpoint), data=str(data), out_dir=str(out), draft_vocab_size=120, seq_len=32,
                  global_batch_tokens=128, micro_batch_size=2, steps=12, unroll_steps=3, warmup_steps=2, lr=3e-3,
                  device="cpu", log_every=2, checkpoint_every=5) | changes
    return DraftTrainConfig(model=dict(MODEL), **values)


def make_step(checkpoint, tmp_path, **changes):
    opened = open_checkpoint(checkpoint)
    config = settings(checkpoint, "", tmp_path, **changes)
    remap = torch.randperm(320, generator=torch.Generator().manual_seed(1))[:90].sort().values
    head = DraftHead(DraftConfig(opened.config, **config.model), remap)
    head.init_weights(4)
    target = CausalLM.from_checkpoint(opened)
    return opened, config, head, DraftStep(head, target, config, torch.device("cpu"))


def windows(docs, seed=0):
    docs = torch.tensor(docs, dtype=torch.int32)
    return torch.randint(320, docs.shape, generator=torch.Generator().manual_seed(seed)), docs


def test_unrolled_loss_is_that_of_drafting_from_every_position(tiny_checkpoint, tmp_path):
    """Chain by chain in float64: rows of the target's hidden states, then the head's own states fed back; nothing
    crosses the border between two documents, nothing counts in the padding."""
    opened, config, head, step = make_step(tiny_checkpoint(), tmp_path, hidden_weight=0.0, seq_len=12, unroll_steps=3,
                                           global_batch_tokens=24, micro_batch_size=1)
    stored = {name: tensor for name, tensor in head.state_dict().items()}
    sizes = dict(MODEL, num_hidden_layers=1)
    ids, docs = windows([[0] * 7 + [1] * 3 + [-1] * 2])
    want = np.zeros(3)
    for first, last in ((0, 7), (7, 10)):
        text = ids[0, first:last].tolist()
        logits, hidden = model_oracle.forward(opened.config, opened.tensors, text)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p = (p / p.sum(-1, keepdims=True))[:, head.token_id_remap.tolist()]
        for i in range(len(text)):
            states = list(hidden[: i + 1])
            for k in range(1, 4):
                if i + k >= len(text):
                    break
                tokens = text[1 : i + 1 + k]
                q, h = draft_oracle.forward(sizes, stored, opened.config, opened.tensors, tokens, np.stack(states))
                log_q = q[-1] - q[-1].max() - np.log(np.exp(q[-1] - q[-1].max()).sum())
                want[k - 1] -= (p[i + k] * log_q).sum()
                states.append(h[-1])
    total, stats, count = step(ids, docs)
    assert int(count) == 6 + 2
    assert np.abs(stats[0::2].double().numpy() - want).max() <= 2e-5 * want.max()
    assert abs(float(total.detach()) - sum(config.step_decay**k * want[k] for k in range(3))) <= 5e-5 * want.sum()


def test_other_documents_and_padding_change_nothing(tiny_checkpoint, tmp_path):
    _, _, head, step = make_step(tiny_checkpoint(), tmp_path)
    docs = [[4] * 20 + [5] * 8 + [-1] * 4]
    ids, docs = windows(docs)
    other = torch.where(docs == 4, ids, (ids + 7) % 320)
    outside = torch.where(docs == 5, -1, docs)

    def gradient(ids, docs):
        head.zero_grad()
        loss, _, count = step(ids, docs)
        loss.backward()
        return loss.detach(), count, head.fc.weight.grad.clone()

    (loss, count, grad), (other_loss, other_count, other_grad) = gradient(ids, outside), gradient(other, outside)
    assert count == other_count == 19 and torch.equal(loss, other_loss) and torch.equal(grad, other_grad)
    whole, _, _ = gradient(ids, docs)
    assert whole > loss
    assert gradient(ids, torch.full_like(docs, -1))[0] == 0


def test_agreement_counts_equal_choices(tiny_checkpoint, tmp_path):
    from training.draft_step import _soft_cross_entropy

    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0], [9.0, 0.0, 0.0]])
    target = torch.tensor([[0.1, 0.6, 0.1], [0.2, 0.3, 0.1], [0.5, 0.1, 0.1]])
    loss, agree, gradient = _soft_cross_entropy(logits, target, torch.tensor([True, True, False]))
    assert agree == 1 and not gradient[2].any()
    leaf = logits.clone().requires_grad_()
    (-(target * leaf.log_softmax(-1))[:2]).sum().backward()
    assert torch.allclose(gradient, leaf.grad, atol=1e-6)
    assert abs(float(loss) + float((target * logits.log_softmax(-1))[:2].sum())) < 1e-5


def run(config, time_limit=None):
    return train_draft.train(config, time_limit)


def test_training_lowers_the_loss_and_the_head_loads(tiny_checkpoint, draft_data, tmp_path):
    checkpoint = tiny_checkpoint(dim_model_base=160)  # sharper than the others: there is something to learn
    config = settings(checkpoint, draft_data, tmp_path / "run", steps=40, generated_tokens=600,
                      generated_length=16, generated_prompt=4)
    summary = run(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 41)) and summary["status"] == "finished"
    assert (Path(config.out_dir) / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for k in (1, 2, 3):
        assert np.mean([row[f"ce{k}"] for row in rows[-8:]]) < 0.9 * np.mean([row[f"ce{k}"] for row in rows[:4]])
    assert rows[-1]["lr"] == pytest.approx(3e-3 / 40)
    draft = open_draft(tmp_path / "run" / "head", open_checkpoint(checkpoint))
    counts = np.bincount(np.concatenate(TokenDataset(draft_data, "train", 32).shards()), minlength=320)
    rest = np.delete(counts, draft.token_id_remap.numpy())
    assert len(draft.token_id_remap) == 120 and 2 in draft.token_id_remap.tolist()
    assert rest.max() <= np.sort(counts[draft.token_id_remap.numpy()])[1]  # but for the end token, which is always in


def test_an_interrupted_run_goes_on_to_the_same_head(tiny_checkpoint, draft_data, tmp_path, monkeypatch):
    whole = settings(tiny_checkpoint(), draft_data, tmp_path / "whole", generated_tokens=400, generated_length=16,
                     generated_prompt=4, final_dtype="fp32")
    run(whole)
    broken = settings(tiny_checkpoint(), draft_data, tmp_path / "broken", generated_tokens=400, generated_length=16,
                      generated_prompt=4, final_dtype="fp32")
    step, calls = DraftTrainer.train_step, []

    def killed(self, *args):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(DraftTrainer, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    monkeypatch.undo()
    (tmp_path / "broken" / "checkpoints" / "step_00000009.part").mkdir()  # a write that was cut off
    run(broken)
    one, two = (load_file(tmp_path / name / "head" / "model.safetensors") for name in ("whole", "broken"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    logs = [[{key: value for key, value in json.loads(line).items() if key not in ("elapsed_s", "tokens_per_s")}
             for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("whole", "broken")]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="lr .was 0.003, now 0.1"):
        run(settings(tiny_checkpoint(), draft_data, tmp_path / "broken", lr=0.1, generated_tokens=400,
                     generated_length=16, generated_prompt=4, final_dtype="fp32"))


def test_time_limit_ends_the_run_with_the_rate_at_zero(tiny_checkpoint, draft_data, tmp_path):
    summary = run(settings(tiny_checkpoint(), draft_data, tmp_path / "run", warmup_steps=0), time_limit=4.0)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert summary["status"] == "finished" and summary["seconds"] >= 4 and len(rows) == summary["step"] > 0
    rates = [row["lr"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert all(row["lr"] <= 3e-3 for row in rows) and rates[-1] < rates[0]
    assert (tmp_path / "run" / "head" / "config.json").exists()


def test_batches_depend_on_seed_and_step_alone(tiny_checkpoint, draft_data, tmp_path):
    config = settings(tiny_checkpoint(), draft_data, tmp_path, generated_tokens=400, generated_length=16,
                      generated_prompt=4, generated_share=0.5)
    dataset = TokenDataset(draft_data, "train", 32)
    ids = torch.arange(25 * 16, dtype=torch.int32).view(25, 16) % 320
    lengths = torch.tensor([16, 5] * 12 + [16], dtype=torch.int32)
    one, two = (draft_batch(dataset, (ids, lengths), 3, config, False) for _ in range(2))
    for (a, b), (c, d) in zip(one.micro_batches, two.micro_batches):
        assert torch.equal(a, c) and torch.equal(b, d)
    docs = torch.cat([docs for _, docs in one.micro_batches])[2:]  # the second half was written by the target
    assert docs.unique().tolist() == [-1, 0, 1] or docs.unique().tolist() == [0, 1]
    valid = sum(int(((d[:, 1:] == d[:, :-1]) & (d[:, 1:] >= 0)).sum()) for _, d in one.micro_batches)
    assert one.count == valid
    assert text_lengths(torch.tensor([[1, 2, 5, 2, 7], [2, 2, 5, 6, 7]]), 2, 2).tolist() == [4, 5]


def test_what_cannot_be_trained_is_refused(tiny_checkpoint, draft_data, tmp_path, capsys):
    data = shutil.copytree(draft_data, tmp_path / "other")
    metadata = json.loads((data / "metadata.json").read_text())
    (data / "metadata.json").write_text(json.dumps(metadata | {"tokenizer_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="another tokenizer"):
        run(settings(tiny_checkpoint(), data, tmp_path / "run"))
    with pytest.raises(ValueError, match="the tokenizer has"):
        draft_vocabulary(TokenDataset(draft_data, "train", 32), 100_000, [])
    for changes, problem in ((dict(unroll_steps=0), "unroll_steps=0"), (dict(micro_batch_size=3), "multiple of"),
                             (dict(generated_tokens=9, generated_length=7), "divisor of seq_len")):
        with pytest.raises(ValueError, match=problem):
            settings(tiny_checkpoint(), draft_data, tmp_path, **changes)
    with pytest.raises(SystemExit) as stopped:
        train_draft.main([str(ROOT / "training/configs/tiny_draft.yaml"), "--set", "unrol_steps=3"])
    assert stopped.value.code == 2 and "did you mean unroll_steps" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["shipped_draft", "tiny_draft"])
def test_shipped_configurations_load(name):
    config = DraftTrainConfig.from_yaml(ROOT / "training/configs" / f"{name}.yaml")
    target = open_checkpoint(config.target)
    head = DraftHead(DraftConfig(target.config, **config.model), torch.arange(config.draft_vocab_size))
    assert 1e6 < sum(p.numel() for p in head.parameters()) < 2e6


def test_saving_replaces_a_head_and_nothing_else(tiny_checkpoint, tmp_path):
    target = open_checkpoint(tiny_checkpoint())
    head = DraftHead(DraftConfig(target.config, **MODEL), torch.arange(50))
    head.init_weights(0)
    for _ in range(2):
        save_draft(tmp_path / "head", head, target, torch.float32)
    back = open_draft(tmp_path / "head", target).module()
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), back.state_dict().values()))
    with pytest.raises(ValueError, match="another target"):
        open_draft(tmp_path / "head", open_checkpoint(tiny_checkpoint(seed=1)))
    (tmp_path / "head" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes.txt"):
        save_draft(tmp_path / "head", head, target)
