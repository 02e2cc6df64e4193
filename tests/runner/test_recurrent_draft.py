"""Recurrent draft heads in the runner: their trees against a float64 reading of the file, losslessness, refused files."""

import struct
import zlib

import numpy as np
import pytest
import torch

from export.draft_file import write_draft
from runtime_delegates.runner import Runner
from runtime_delegates.session import Session
from tests.draft import recurrent_oracle as oracle
from tests.runner.test_runner import PROMPTS, VOCAB, decoded
from training.checkpoint import open_checkpoint
from training.model import CausalLM
from training.recurrent import RecurrentConfig, RecurrentHead, Successors
from training.recurrent_files import RecurrentDraft
from training.recurrent_step import RecurrentStep

UNTIED = dict(tie_word_embeddings=False)
SHAPES = [dict(draft_width=1, draft_depth=3, draft_tokens=3), dict(draft_width=3, draft_depth=4, draft_tokens=12),
          dict(draft_width=16, draft_depth=9, draft_tokens=63), dict(draft_width=2, draft_depth=60, draft_tokens=1)]


def make_head(checkpoint, path, steps=60, seed=0, state=64):
    """A head that has learned a little of what the target writes, as the runner's file."""
    target, rng = open_checkpoint(checkpoint), torch.Generator().manual_seed(seed)
    model = CausalLM.from_checkpoint(target)
    ids = torch.randint(3, VOCAB, (32, 8), generator=rng)
    with torch.no_grad():
        for _ in range(24):
            ids = torch.cat([ids, model.logits(model(ids).hidden[:, -1:]).argmax(-1)], 1)
    successors = Successors.most_frequent([row.numpy() for row in ids], [1.0] * len(ids), VOCAB, 2000, 40)
    head = RecurrentHead(RecurrentConfig(target.config, state, 64), successors)
    head.init_weights(seed)

    class Config:
        seq_len, unroll_steps, step_decay = ids.shape[1], 3, 0.8

        def uses_bf16(self, _):
            return False

    step, optimizer = RecurrentStep(head, model, Config(), torch.device("cpu")), torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(steps):
        loss, _, count = step(ids, torch.zeros_like(ids, dtype=torch.int32) + torch.arange(len(ids), dtype=torch.int32)[:, None])
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    tensors = {name: tensor.detach() for name, tensor in head.state_dict().items()}
    write_draft(RecurrentDraft(path, head.config, tensors, successors), target, path)
    return path


@pytest.fixture(scope="module")
def head(tiny_checkpoint, tmp_path_factory):
    return make_head(tiny_checkpoint(**UNTIED), tmp_path_factory.mktemp("head") / "head.draft")


def with_head(program, head):
    runner = Runner(program)
    runner.load_draft(head)
    return runner


@pytest.mark.parametrize("quant", ["fp32", "int8"])
def test_greedy_with_a_recurrent_head_is_plain_decoding(tiny_pte, head, quant):
    program = tiny_pte(quant=quant, **UNTIED)
    session, runner, accepted = Session(program, threads=1), with_head(program, head), 0
    rng = np.random.default_rng(11)
    for prompt in PROMPTS + [rng.integers(3, VOCAB, rng.integers(1, 90)).tolist() for _ in range(12)]:
        want = decoded(session, prompt, 40)
        for shape in SHAPES:
            for mode, drafter in (("spec", "head"), ("spec", "best"), ("auto", "best"), ("auto", "head")):
                got = runner.generate(prompt, 40, mode, drafter=drafter, **shape)
                assert got.ids == want, (mode, drafter, shape)
                accepted += got.accepted_tokens if drafter == "head" else 0
    assert accepted > 200


def test_trees_are_the_head_s_own(tiny_pte, tiny_checkpoint, head):
    """Every tree of a run: tokens, order and confidences of a float64 reading of the file, over hidden states of the model in
    float32. The runner rounds vectors to 12 bits, so that confidences may differ by a hundredth and near ties by their order."""
    matrices, model = oracle.from_file(head), CausalLM.from_checkpoint(open_checkpoint(tiny_checkpoint(**UNTIED)))
    runner, trees = with_head(tiny_pte(quant="fp32", **UNTIED), head), []
    runner.set_observer(trees.append)
    compared = 0
    for prompt in (PROMPTS[1], PROMPTS[4]):
        trees.clear()
        result = runner.generate(prompt, 24, "spec", drafter="head", draft_width=3, draft_depth=3, draft_tokens=40)
        text, known = [*prompt, *result.ids], len(prompt) + 1
        hidden = model(torch.tensor([text])).hidden[0].double().numpy()
        for tree in trees:
            root = oracle.advance(matrices, oracle.start(matrices, hidden[known - 2]), text[known - 1])
            states, last = {0: root}, {0: text[known - 1]}
            for row, (token, parent, confidence, _, _) in enumerate(tree):
                if row:
                    states[row], last[row] = oracle.advance(matrices, states[parent], token), token
            for parent in states:
                children = [(token, confidence) for token, at, confidence, _, _ in tree[1:] if at == parent]
                if not children:
                    continue
                log_p, _ = oracle.log_p(matrices, states[parent], last[parent])
                want = dict(zip(matrices["successors"][last[parent]], np.exp(log_p)))
                assert len(children) == min(3, len(want))
                best = sorted(want.values(), reverse=True)
                for (token, confidence), expected in zip(children, best):
                    assert abs(confidence - want[token]) <= 0.01 and abs(want[token] - expected) <= 0.01
                    compared += 1
            known += 1 + sum(accepted for *_, accepted in tree[1:])
    assert compared > 100


def test_turns_cancel_and_context_end(tiny_pte, head):
    program = tiny_pte(quant="int8", **UNTIED)
    session, runner, fresh = Session(program), with_head(program, head), with_head(program, head)
    context = PROMPTS[2]
    for turn in range(6):
        options = dict(mode="spec", drafter="head", draft_width=2, draft_depth=3)
        result = runner.generate(context, 10, **options)
        fresh.reset()
        assert result.ids == decoded(session, context, 10) and result.emitted == fresh.generate(context, 10, **options).emitted
        if turn % 2:
            runner.generate([*context, *result.ids], 3, "plain")  # the head does not see it
        context = [*context[: len(context) - 2 * (turn % 3)], *result.ids, 9, 11]
    for length in (150, 158, 159, 160):
        prompt = (PROMPTS[5] * 2)[:length]
        result = runner.generate(prompt, 500, "spec", drafter="head")
        assert result.ids == decoded(session, prompt, 500) and result.stopped_by in ("context full", "end of text")
    result = runner.generate(PROMPTS[2], 60, "spec", drafter="head", on_token=lambda token: runner.cancel())
    assert result.stopped_by == "cancelled"


def test_sampling_is_the_same_as_without(tiny_pte, head):
    program = tiny_pte(quant="int8", **UNTIED)
    session, runner = Session(program), with_head(program, head)
    settings = dict(temperature=0.8, top_p=0.9, seed=3)
    for prompt in (PROMPTS[2], PROMPTS[6]):
        want = decoded(session, prompt, 30, **settings)
        for shape in SHAPES[:3]:
            assert runner.generate(prompt, 30, "spec", drafter="head", **shape, **settings).ids == want


def test_a_head_of_another_model_is_refused(tiny_pte, tiny_checkpoint, tmp_path):
    runner = Runner(tiny_pte(quant="int8", **UNTIED))
    for options, message in ((dict(seed=5), "fingerprints differ"), (dict(hidden_size=64), "320 tokens and hidden size 64")):
        with pytest.raises(RuntimeError, match=message):
            runner.load_draft(make_head(tiny_checkpoint(**options), tmp_path / "head.draft", steps=0))


def test_damaged_files_are_refused_or_harmless(tiny_pte, head, tmp_path):
    """Cut anywhere and flipped anywhere; and with the checksum made right again, so that every field is looked at."""
    program, data, path = tiny_pte(quant="int8", **UNTIED), head.read_bytes(), tmp_path / "head.draft"
    want, runner, rng = decoded(Session(program), PROMPTS[2], 12), Runner(program), np.random.default_rng(0)
    for size in (0, 4, 8, 63, 64, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(RuntimeError, match="head.draft"):
            runner.load_draft(path)
    for place in rng.integers(64, len(data), 20):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(RuntimeError, match="checksum differs"):
            runner.load_draft(path)
    refused = 0
    for trial in range(120):
        changed = bytearray(data)
        place = int(rng.integers(8, 48)) if trial % 2 else len(data) - int(rng.integers(1, 2500))
        changed[place] ^= int(rng.integers(1, 256))
        struct.pack_into("<I", changed, 44, zlib.crc32(changed[64:]))
        path.write_bytes(changed)
        try:
            runner.load_draft(path)
        except RuntimeError as error:
            assert "head.draft" in str(error)
            refused += 1
            continue
        assert runner.generate(PROMPTS[2], 12, "spec", drafter="head").ids == want
    assert refused > 40


def test_weights_that_are_not_finite_propose_nothing(tiny_pte, head, tmp_path):
    data = bytearray(head.read_bytes())
    struct.pack_into("<f", data, 64, float("nan"))  # the first scale of hidden_in
    struct.pack_into("<I", data, 44, zlib.crc32(data[64:]))
    (tmp_path / "head.draft").write_bytes(data)
    program = tiny_pte(quant="int8", **UNTIED)
    result = with_head(program, tmp_path / "head.draft").generate(PROMPTS[2], 12, "spec", drafter="head")
    assert result.ids == decoded(Session(program), PROMPTS[2], 12) and result.drafted_tokens == 0


def test_a_tree_of_any_width_stays_small(tiny_pte, head):
    """Each level could have 16 times as many tokens as the one above."""
    program, rows = tiny_pte(quant="int8", **UNTIED), []
    runner = with_head(program, head)
    runner.set_observer(lambda tree: rows.append(len(tree)))
    got = runner.generate(PROMPTS[2], 20, "spec", drafter="head", draft_tokens=63, draft_width=2**31 - 1, draft_depth=2**31 - 1)
    assert got.ids == decoded(Session(program), PROMPTS[2], 20) and 64 < max(rows) <= 1 + 64 * 16
