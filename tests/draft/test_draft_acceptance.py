"""Measured acceptance equals that of a plain speculative decoding loop that verifies every candidate."""

import json

import numpy as np
import pytest
import torch

from safetensors.torch import load_file

from tests.draft import draft_oracle
from tests.draft.test_draft_training import settings
from training import evaluate_draft, train_draft
from training.acceptance import measure
from training.cached import generate
from training.checkpoint import open_checkpoint, save_checkpoint
from training.draft_files import open_draft
from training.drafters import HeadDrafter, ModelDrafter
from training.model import CausalLM

PROMPT, NEW = 12, 20


@pytest.fixture(scope="module")
def trained(tiny_checkpoint, draft_data, tmp_path_factory):
    """(target directory, head directory): trained until it is right now and then."""
    out = tmp_path_factory.mktemp("trained") / "run"
    checkpoint = tiny_checkpoint()
    train_draft.train(settings(checkpoint, draft_data, out, steps=80, generated_tokens=2000, generated_length=32,
                               generated_prompt=4, generated_share=1.0, draft_vocab_size=300, lr=6e-3,
                               final_dtype="fp32"))
    return checkpoint, out / "head"


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def greedy(model, ids):
    return int(model.logits(model(torch.tensor([ids])).hidden[0, -1]).argmax())


def plain_loop(model, propose, prompt, depth, width, nodes):
    """Histogram of tokens gained: builds every tree by recursion and verifies each candidate by a full forward."""
    ids = prompt + [greedy(model, prompt)]
    histogram = [0] * (depth + 1)
    while len(ids) < PROMPT + NEW:
        candidates, level = [], [((), 0.0)]  # paths with their cumulative log-probabilities
        for _ in range(depth):
            children = []
            for path, score in level:
                tokens, log_p = propose(ids, path)
                for j in np.argsort(-log_p, kind="stable")[:width]:
                    children.append((path + (int(tokens[j]),), score + float(log_p[j])))
            candidates += children
            level = sorted(children, key=lambda item: -item[1])[:width]
        kept = {path for path, _ in sorted(candidates, key=lambda item: (-item[1], len(item[0])))[:nodes]}
        path = ()
        while (following := path + (greedy(model, ids + list(path)),)) in kept:
            path = following
        ids += [*path, greedy(model, ids + list(path))]
        histogram[len(path)] += 1
    return histogram


@torch.no_grad()
@pytest.mark.parametrize("depth, width, nodes", [(4, 1, 31), (3, 2, 31), (3, 3, 6)])
def test_head_measures_as_in_a_plain_loop(trained, depth, width, nodes):
    checkpoint, directory = trained
    opened = open_checkpoint(checkpoint)
    model = CausalLM.from_checkpoint(opened)
    sizes, stored = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    remap = stored["token_id_remap"].tolist()

    def propose(ids, path):
        states = list(model(torch.tensor([ids])).hidden[0, :-1].double().numpy())  # of all tokens but the newest
        tokens = ids[1:]
        for token in path:
            _, h = draft_oracle.forward(sizes, stored, opened.config, opened.tensors, tokens, np.stack(states))
            states.append(h[-1])
            tokens = tokens + [token]
        logits, _ = draft_oracle.forward(sizes, stored, opened.config, opened.tensors, tokens, np.stack(states))
        return remap, log_softmax(logits[-1])

    prompts = torch.randint(3, 320, (2, PROMPT), generator=torch.Generator().manual_seed(8))
    ids, hidden = generate(model, prompts, NEW + depth + 1)
    drafter = HeadDrafter(open_draft(directory, opened).module(), model, PROMPT + NEW + 2 * depth + 2)
    drafter.read(ids, hidden)
    ends, never = torch.full((2,), PROMPT + NEW), torch.zeros(2, dtype=torch.bool)
    got = measure(drafter, ids, PROMPT, ends, never, depth, width, nodes)
    want = [plain_loop(model, propose, prompt.tolist(), depth, width, nodes) for prompt in prompts]
    assert got.histogram == [sum(counts) for counts in zip(*want)]
    assert sum(got.histogram[1:]) > 0, "the head never guessed right: nothing was tested"


@torch.no_grad()
def test_model_as_draft(tiny_checkpoint, tmp_path):
    """The target drafting for itself is always right; a disturbed copy measures as in a plain loop."""
    opened = open_checkpoint(tiny_checkpoint(tie_word_embeddings=False))
    model = CausalLM.from_checkpoint(opened)
    generator = torch.Generator().manual_seed(2)
    noisy = {name: tensor + 0.15 * tensor.std() * torch.randn(tensor.shape, generator=generator)
             for name, tensor in opened.tensors.items()}
    save_checkpoint(tmp_path / "noisy", opened.config, noisy, torch.float32)
    disturbed = CausalLM.from_checkpoint(open_checkpoint(tmp_path / "noisy"))
    prompts = torch.randint(3, 320, (2, PROMPT), generator=torch.Generator().manual_seed(8))
    ids, hidden = generate(model, prompts, NEW + 5)
    ends, never = torch.full((2,), PROMPT + NEW), torch.zeros(2, dtype=torch.bool)
    same = ModelDrafter(model, 64)
    same.read(ids, hidden)
    assert measure(same, ids, PROMPT, ends, never, 3, 1).histogram == [0, 0, 0, 2 * -(-(NEW - 1) // 4)]
    drafter = ModelDrafter(disturbed, 64)
    drafter.read(ids, hidden)

    def propose(context, path):
        logits = disturbed.logits(disturbed(torch.tensor([context + list(path)])).hidden[0, -1])
        return range(320), log_softmax(logits.double().numpy())

    want = [plain_loop(model, propose, prompt.tolist(), 3, 2, 31) for prompt in prompts]
    got = measure(drafter, ids, PROMPT, ends, never, 3, 2)
    assert got.histogram == [sum(counts) for counts in zip(*want)] and 0 < got.histogram[3] < got.cycles


@torch.no_grad()
def test_nothing_counts_behind_the_end_of_a_text(tiny_checkpoint):
    model = CausalLM.from_checkpoint(open_checkpoint(tiny_checkpoint()))
    prompts = torch.randint(3, 320, (2, PROMPT), generator=torch.Generator().manual_seed(8))
    ids, hidden = generate(model, prompts, NEW + 5)
    drafter = ModelDrafter(model, 64)
    drafter.read(ids, hidden)
    lengths = torch.tensor([PROMPT + 7, PROMPT + 1])
    got = measure(drafter, ids, PROMPT, lengths, torch.ones(2, dtype=torch.bool), 3, 1)
    assert got.histogram == [0, 1, 0, 1] and got.tokens == 6


@torch.no_grad()
def test_cached_generation_is_that_of_whole_sequences(tiny_checkpoint):
    for flavour in ({}, dict(attention_type="vanilla", num_key_value_heads=2, ffn_type="vanilla")):
        model = CausalLM.from_checkpoint(open_checkpoint(tiny_checkpoint(**flavour)))
        prompts = torch.randint(3, 320, (3, 5), generator=torch.Generator().manual_seed(1))
        ids, hidden = generate(model, prompts, 9)
        whole = model(ids[:, :-1]).hidden
        assert not (~((hidden - whole).abs() <= 2e-5 * whole.abs().amax(-1, keepdim=True))).any()
        assert torch.equal(model.logits(whole[:, 4:]).argmax(-1), ids[:, 5:])
    half = torch.tensor([0.0, 0.0, 50.0])
    again, none = generate(model, prompts, 9, half, torch.Generator().manual_seed(0), keep_hidden=False)
    assert none is None and torch.equal(again[:2], ids[:2]) and not torch.equal(again[2], ids[2])
    with pytest.raises(ValueError, match="do not fit"):
        generate(model, prompts, 10_000)


def test_command(trained, tiny_checkpoint, tmp_path, capsys):
    checkpoint, head = trained
    text = tmp_path / "text.txt"
    text.write_text("The runtime reads only the experts that a chunk needs. " * 20)
    arguments = [str(head), "--target", str(checkpoint), "--text", str(text), "--prompt-tokens", "16", "--new-tokens",
                 "20", "--depths", "2", "3", "--widths", "1", "4", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert evaluate_draft.main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads((tmp_path / "out" / "acceptance.json").read_text())
    assert [(row["width"], row["depth"]) for row in result["rows"]] == [(1, 2), (1, 3), (4, 2), (4, 3)]
    for row in result["rows"]:
        assert 1 <= row["tokens_per_cycle"] <= row["depth"] + 1 and sum(row["histogram"]) == row["cycles"]
    assert (tmp_path / "out" / "acceptance.png").stat().st_size > 10_000
    assert evaluate_draft.main([str(checkpoint), *arguments[1:]]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][1]["tokens_per_cycle"] == 4.0
    for draft, problem in ((tiny_checkpoint(tokenizer=False), "another tokenizer"),):
        assert evaluate_draft.main([str(draft), *arguments[1:]]) == 1
        assert problem in capsys.readouterr().err
    assert evaluate_draft.main([*arguments[:4], str(text), "--prompt-tokens", "9999"]) == 1
    with pytest.raises(SystemExit):
        evaluate_draft.main([*arguments, "--depths", "0"])
