"""A small language model as the runner's drafter: lossless, its own greedy text, its cache across cycles and turns."""

import shutil

import numpy as np
import pytest

from runtime_delegates.runner import Runner
from runtime_delegates.session import Session
from tests.runner.test_runner import PROMPTS, VOCAB, decoded

UNTIED = dict(tie_word_embeddings=False)  # a random model with a tied head repeats its last token for ever
DENSE = dict(ffn_type="vanilla", num_hidden_layers=1, hidden_size=32, attention_type="vanilla", num_key_value_heads=2)
SHAPES = [dict(draft_width=1, draft_depth=3, draft_tokens=3), dict(draft_width=4, draft_depth=6, draft_tokens=20),
          dict(draft_width=3, draft_depth=40, draft_tokens=63)]


@pytest.fixture(scope="module")
def target(tiny_pte):
    return tiny_pte(quant="int8", **UNTIED)


@pytest.fixture(scope="module")
def other(tiny_pte):
    """A dense model of another size, with other weights."""
    return tiny_pte(quant="int8", seed=3, **DENSE, **UNTIED)


@pytest.fixture(scope="module")
def similar(tiny_pte):
    """The target in another precision: right for a part of the time."""
    return tiny_pte(quant="int4", **UNTIED)


def drafting(target, draft):
    runner = Runner(target)
    runner.load_draft(draft)
    return runner


def test_greedy_is_plain_decoding(target, other, similar):
    session, runners = Session(target, threads=1), [drafting(target, draft) for draft in (other, similar, target)]
    accepted, drafted = [0] * 3, [0] * 3
    for prompt in PROMPTS:
        want = decoded(session, prompt, 30)
        for shape in SHAPES:
            for mode, drafter in (("spec", "head"), ("spec", "best"), ("auto", "best"), ("auto", "head")):
                for i, runner in enumerate(runners):
                    result = runner.generate(prompt, 30, mode, drafter=drafter, **shape)
                    assert result.ids == want, (len(prompt), mode, drafter, shape, i)
                    accepted[i] += result.accepted_tokens
                    drafted[i] += result.drafted_tokens
    shares = [a / d for a, d in zip(accepted, drafted)]
    assert shares[0] < 0.5 * shares[1] and 0.05 < shares[1] < 0.9 * shares[2]  # all kinds of cycles


def test_all_is_accepted_when_the_draft_is_the_target(target):
    runner = drafting(target, target)
    for prompt in PROMPTS:
        for depth in (1, 4, 9):
            result = runner.generate(prompt, 30, "spec", drafter="head", draft_width=1, draft_depth=depth, draft_tokens=depth)
            assert result.accepted_tokens == result.drafted_tokens > 0
            assert result.emitted.get(depth + 1, 0) == (result.generated_tokens - 1) // (depth + 1)


def test_drafts_are_the_models_own_greedy_text(target, similar):
    """Cycle by cycle, against that model's plain decoding in Python."""
    text_of, draft_of, runner, accepted = Session(target, threads=1), Session(similar, threads=1), drafting(target, similar), 0
    rng = np.random.default_rng(1)
    for prompt in [PROMPTS[1], PROMPTS[6], PROMPTS[7], *(rng.integers(3, VOCAB, n).tolist() for n in (5, 40, 66))]:
        text, depth = prompt + decoded(text_of, prompt, 24), 4
        n, emitted = len(prompt) + 1, {}
        while n < len(text):
            chain = decoded(draft_of, text[:n], depth)
            room = len(text) - n - 1
            same = 0
            while same < min(len(chain), room) and chain[same] == text[n + same]:
                same += 1
            emitted[same + 1] = emitted.get(same + 1, 0) + 1
            n, accepted = n + same + 1, accepted + same
        runner.reset()
        got = runner.generate(prompt, 24, "spec", drafter="head", draft_width=1, draft_depth=depth, draft_tokens=depth)
        assert got.emitted == emitted
    assert accepted >= 20


def test_siblings_are_the_next_likeliest_tokens(target, tiny_pte):
    runner, session, trees = drafting(target, target), Session(target, threads=1), []
    runner.set_observer(trees.append)
    runner.generate(PROMPTS[2], 2, "spec", drafter="head", draft_width=3, draft_depth=1, draft_tokens=9)
    trees.clear()
    runner.generate(PROMPTS[2], 9, "spec", drafter="head", draft_width=3, draft_depth=2, draft_tokens=9)
    context = PROMPTS[2] + decoded(session, PROMPTS[2], 1)
    rows = trees[0]
    assert [parent for _, parent, *_ in rows] == [-1, 0, 0, 0, 1, 1, 1]
    for parent, path in ((0, []), (1, [rows[1][0]])):
        session.reset()
        logits = session.prefill(context + path).numpy()
        best = [token for token, p, *_ in rows if p == parent]
        assert best == np.argsort(-logits)[:3].tolist()
        p = np.exp(logits.astype(np.float64) - logits.max())
        want = (p / p.sum())[best]
        got = [c for _, q, c, *_ in rows if q == parent]
        assert not (~(np.abs(np.array(got) - want) <= 1e-3)).any()


def test_turns_keep_what_is_right_in_the_cache(target, similar):
    runner, fresh, random = drafting(target, similar), drafting(target, similar), np.random.default_rng(2)
    session, context = Session(target, threads=1), []
    options = dict(mode="spec", drafter="head", draft_width=2, draft_depth=4)
    for turn in range(12):
        if turn % 3 == 0:
            context = random.integers(3, VOCAB, 30).tolist()
        elif turn % 3 == 1:
            context = [*context, *random.integers(3, VOCAB, 5).tolist()]
        else:
            context = [*context[:-7], 9, 11]
        result = runner.generate(context, 10, **options)
        fresh.reset()
        assert result.ids == decoded(session, context, 10) and result.emitted == fresh.generate(context, 10, **options).emitted
        context = context + result.ids


def test_a_draft_model_with_a_shorter_context_goes_on_with_the_end_of_the_text(target, tiny_pte):
    session, runner = Session(target, threads=1), drafting(target, tiny_pte(quant="int8", max_context=64, **UNTIED))
    for prompt in (PROMPTS[5], PROMPTS[0], PROMPTS[4], (PROMPTS[5] * 2)[:157]):
        for depth in (3, 63):
            want = decoded(session, prompt, 60)
            result = runner.generate(prompt, 60, "spec", drafter="head", draft_depth=depth, draft_tokens=min(depth, 12))
            assert result.ids == want and (result.accepted_tokens > 0 or len(prompt) > 64)


def test_sampling_is_the_same_as_without(target, similar):
    session, runner = Session(target, threads=1), drafting(target, similar)
    for settings in (dict(temperature=0.9, seed=3), dict(temperature=0.7, top_p=0.8, repetition_penalty=1.2, seed=5)):
        want = decoded(session, PROMPTS[6], 30, **settings)
        for mode in ("spec", "auto"):
            assert runner.generate(PROMPTS[6], 30, mode, drafter="head", **SHAPES[1], **settings).ids == want


def test_models_with_another_tokenizer_are_refused(target, tiny_pte, tiny_checkpoint, tmp_path):
    from export.decoder import Decoder
    from export.lower import lower
    from training.checkpoint import open_checkpoint

    changed = shutil.copytree(tiny_checkpoint(), tmp_path / "changed")
    text = (changed / "tokenizer.json").read_text(encoding="utf-8")
    (changed / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    lower(Decoder(open_checkpoint(changed), "int8", 160), str(tmp_path / "changed.pte"))
    runner = Runner(target)
    for path, message in ((tmp_path / "changed.pte", "the draft model has another tokenizer than the model"),
                          (tiny_pte(quant="int8", vocab_size=336, tokenizer=False), "the draft model has 336 tokens, but the model 320")):
        with pytest.raises(RuntimeError, match=message):
            runner.load_draft(path)
    with pytest.raises(ValueError, match="no draft"):
        runner.generate(PROMPTS[2], 5, "spec", drafter="head")
    runner.load_draft(tiny_pte(quant="int8", seed=1, tokenizer=False))  # says nothing about its tokenizer
    assert runner.generate(PROMPTS[2], 20, "spec").ids == decoded(Session(target, threads=1), PROMPTS[2], 20)
