"""Draft heads in the runner: their drafts against a plain float32 reading of the head, and losslessness."""

import shutil

import numpy as np
import pytest

from runtime_delegates.runner import Runner
from runtime_delegates.sampling import Sampler
from runtime_delegates.session import Session
from tests.runner.heads import Reference
from tests.runner.test_runner import MODELS, PROMPTS, VOCAB, decoded

UNTIED = dict(tie_word_embeddings=False)
SHAPES = [dict(draft_width=1, draft_depth=3, draft_tokens=3), dict(draft_width=3, draft_depth=4, draft_tokens=12),
          dict(draft_width=10, draft_depth=4, draft_tokens=31), dict(draft_width=16, draft_depth=9, draft_tokens=63),
          dict(draft_width=2, draft_depth=60, draft_tokens=1)]


@pytest.fixture(scope="module")
def reference_of(tiny_checkpoint):
    """Heads that have learned a little, trained once for each checkpoint."""
    made = {}

    def make(**options):
        checkpoint = tiny_checkpoint(**options)
        if checkpoint not in made:
            made[checkpoint] = Reference(checkpoint, steps=120)
        return made[checkpoint]

    return make


@pytest.fixture(scope="module", params=MODELS)
def trained(request, tiny_pte, reference_of, tmp_path_factory):
    """(program, head's program, reference)."""
    options = dict(MODELS[request.param])
    quant = options.pop("quant")
    reference = reference_of(**options)
    return tiny_pte(quant=quant, **options), reference.export(tmp_path_factory.mktemp("head") / "head.pte", quant), reference


@pytest.fixture(scope="module")
def int8(tiny_pte, reference_of, tmp_path_factory):
    reference = reference_of(**UNTIED)
    return tiny_pte(quant="int8", **UNTIED), reference.export(tmp_path_factory.mktemp("head") / "head.pte", "int8"), reference


def with_head(trained):
    runner = Runner(trained[0])
    runner.load_draft(trained[1])
    return runner


def test_greedy_with_a_head_is_plain_decoding(trained):
    session, runner, accepted = Session(trained[0], threads=1), with_head(trained), 0
    rng = np.random.default_rng(11)
    prompts = PROMPTS + [rng.integers(3, VOCAB, rng.integers(1, 90)).tolist() for _ in range(12)]
    for k, prompt in enumerate(prompts):
        want = decoded(session, prompt, 40)
        for shape in SHAPES:
            for mode, drafter in (("spec", "head"), ("spec", "best"), ("auto", "best"), ("auto", "head"), ("auto", "ngram")):
                got = runner.generate(prompt, 40, mode, drafter=drafter, **shape)
                assert got.ids == want, (k, mode, drafter, shape)
                if drafter == "head":
                    accepted += got.accepted_tokens
                    assert got.drafted_tokens <= shape["draft_tokens"] * got.cycles
    assert accepted > 200


def test_drafts_are_the_head_s_own(tiny_pte, reference_of, tmp_path):
    """Cycle by cycle: what a float32 reading of the head proposes, from whole sequences, is what is accepted."""
    reference, pte = reference_of(**UNTIED), tiny_pte(quant="fp32", **UNTIED)
    runner, session, total, cycles = Runner(pte), Session(pte), 0, 0
    runner.load_draft(reference.export(tmp_path / "head.pte"))
    for prompt in (PROMPTS[1], PROMPTS[2], PROMPTS[4], PROMPTS[7]):
        text = prompt + decoded(session, prompt, 24)
        for width, depth, most in ((1, 3, 3), (3, 3, 7), (6, 4, 31)):
            n, emitted = len(prompt) + 1, {}
            while n < len(text):
                room = len(text) - n - 1
                paths = reference.tree(text[:n], reference.hidden(text[: n - 1]), width, min(depth, room), most) if room else {}
                accepted = max((len(path) for path in paths if list(path) == text[n : n + len(path)]), default=0)
                emitted[accepted + 1] = emitted.get(accepted + 1, 0) + 1
                n, total, cycles = n + accepted + 1, total + accepted, cycles + 1
            runner.reset()
            got = runner.generate(prompt, 24, "spec", drafter="head", draft_width=width, draft_depth=depth, draft_tokens=most)
            assert got.emitted == emitted, (len(prompt), width)
    assert total > 20 and cycles > 20


def test_turns_with_a_head(int8):
    """Common beginnings are reused, and the head's own context stays right: it drafts as from scratch, unless it has missed a run."""
    runner, fresh, random = with_head(int8), with_head(int8), np.random.default_rng(2)
    session, context = Session(int8[0]), []
    for turn in range(20):
        if turn % 3 == 0:
            context, missed = random.integers(3, VOCAB, 30).tolist(), False
        elif turn % 3 == 1:
            context = [*context, *random.integers(3, VOCAB, 5).tolist()]
        else:
            context = [*context[:-7], 9, 11]
        options = dict(mode="spec", drafter="head", draft_width=2, draft_depth=3)
        result = runner.generate(context, 10, **options)
        assert result.ids == decoded(session, context, 10)
        fresh.reset()
        if not missed:
            assert fresh.generate(context, 10, **options).emitted == result.emitted
        if turn % 3 == 1:
            assert result.reused_tokens >= len(context) - 7
        if turn // 3 % 2:  # a run that the head does not see: it goes on behind it
            runner.generate([*context, *result.ids], 3, "plain")
            missed = True
        context = context + result.ids


def test_context_end_in_mid_tree(int8):
    session, runner = Session(int8[0]), with_head(int8)
    for length in (100, 150, 157, 158, 159, 160):
        prompt = (PROMPTS[5] * 2)[:length]
        want = decoded(session, prompt, 500)
        for shape in SHAPES:
            for mode in ("spec", "auto"):
                result = runner.generate(prompt, 500, mode, drafter="head", **shape)
                assert result.ids == want and result.stopped_by in ("context full", "end of text")


@pytest.mark.parametrize("context", [64, 65, 80])
def test_a_head_with_a_shorter_context_begins_anew(int8, tmp_path, context):
    session, runner = Session(int8[0]), Runner(int8[0])
    runner.load_draft(int8[2].export(tmp_path / "head.pte", max_context=context))
    for prompt in (PROMPTS[0], PROMPTS[5]):
        want = decoded(session, prompt, 60)
        result = runner.generate(prompt, 60, "spec", drafter="head")
        assert result.ids == want and result.drafted_tokens > result.cycles
        # Trees of 64 rows, which a context of 64 leaves no room for beside the row of the last token.
        assert runner.generate(prompt, 60, "spec", drafter="head", draft_tokens=63, draft_width=16, draft_depth=8).ids == want


def test_sampling_with_a_head_is_the_same_as_without(int8):
    session, runner = Session(int8[0]), with_head(int8)
    for settings in (dict(temperature=0.9, seed=3), dict(temperature=0.7, top_p=0.8, repetition_penalty=1.2, seed=5)):
        for prompt in (PROMPTS[2], PROMPTS[6]):
            want = decoded(session, prompt, 30, **settings)
            for shape in SHAPES[:3]:
                for mode, drafter in (("spec", "head"), ("auto", "best")):
                    assert runner.generate(prompt, 30, mode, drafter=drafter, **shape, **settings).ids == want


def test_sampled_head_trees_follow_the_target(int8):
    """Chi-square of the first two tokens against exact probabilities."""
    settings, prompt, runs = dict(temperature=1.0, top_k=4), PROMPTS[2], 2000
    session, runner = Session(int8[0]), with_head(int8)
    sampler = Sampler(**settings)

    def distribution(ids):
        session.reset()
        return sampler.probabilities(session.prefill(ids).numpy())

    exact = {(int(a), int(b), int(c)): pa[a] * pb[b] * pc[c] for pa in [distribution(prompt)] for a in np.flatnonzero(pa)
             for pb in [distribution([*prompt, a])] for b in np.flatnonzero(pb)
             for pc in [distribution([*prompt, a, b])] for c in np.flatnonzero(pc)}
    counts, accepted = dict.fromkeys(exact, 0), 0
    for seed in range(runs):
        result = runner.generate(prompt, 3, "spec", drafter="head", seed=seed, draft_width=4, draft_depth=2, draft_tokens=12, **settings)
        counts[tuple(result.ids)] += 1
        accepted += result.accepted_tokens
    assert accepted > runs / 20
    small = sum(p for p in exact.values() if p * runs < 5)
    cells = [(counts[k], p * runs) for k, p in exact.items() if p * runs >= 5]
    cells += [(runs - sum(c for c, _ in cells), small * runs)] if small else []
    freedom = len(cells) - 1
    assert freedom > 10 and sum((c - e) ** 2 / e for c, e in cells) <= freedom + 6 * np.sqrt(2 * freedom)


def test_cancel_and_budget_with_a_head(int8):
    session, runner = Session(int8[0]), with_head(int8)
    text = decoded(session, PROMPTS[2], 60)
    for budget in range(1, 12):
        result = runner.generate(PROMPTS[2], budget, "spec", drafter="head")
        assert result.ids == text[:budget] and result.stopped_by == "max tokens"
    result = runner.generate(PROMPTS[2], 60, "spec", drafter="head", draft_tokens=8, on_token=lambda t: runner.cancel())
    assert result.stopped_by == "cancelled" and len(result.ids) <= 9 and result.ids == text[: len(result.ids)]
    assert runner.generate(PROMPTS[2], 60, "spec", drafter="head").ids == text


# ---- heads that do not fit ----
def test_heads_of_other_targets_are_refused(int8, tiny_pte, tiny_checkpoint, tmp_path):
    runner, session = Runner(int8[0]), Session(int8[0])
    cases = {
        "fingerprints differ": tiny_checkpoint(seed=5),
        "320 tokens and hidden size 64": tiny_checkpoint(hidden_size=64),
        "336 tokens and hidden size 48": tiny_checkpoint(vocab_size=336, tokenizer=False),
    }
    for message, checkpoint in cases.items():
        head = Reference(checkpoint).export(tmp_path / "head.pte")
        with pytest.raises(RuntimeError, match=message):
            runner.load_draft(head)
    (tmp_path / "text.pte").write_bytes(b"hello" * 30)
    for path, message in ((tmp_path / "text.pte", "text.pte"), (tmp_path / "nowhere.pte", "No such file")):
        with pytest.raises(RuntimeError, match=message):
            runner.load_draft(path)
    with pytest.raises(RuntimeError, match="not exported by"):
        Runner(int8[1])  # a head is no model
    with pytest.raises(ValueError, match="no draft head is loaded"):
        runner.generate(PROMPTS[2], 5, "spec", drafter="head")
    with pytest.raises(ValueError, match="choose best, ngram, head"):
        runner.generate(PROMPTS[2], 5, drafter="magic")
    assert runner.generate(PROMPTS[2], 20, "spec").ids == decoded(session, PROMPTS[2], 20)


def test_a_loaded_head_stays_when_another_is_refused_and_can_be_removed(int8, tmp_path):
    runner = with_head(int8)
    with pytest.raises(RuntimeError):
        runner.load_draft(tmp_path / "nowhere.pte")
    assert runner.generate(PROMPTS[2], 20, "spec", drafter="head").drafted_tokens > 0
    runner.load_draft(None)
    with pytest.raises(ValueError, match="no draft head is loaded"):
        runner.generate(PROMPTS[2], 20, "spec", drafter="head")


def test_a_cut_head_is_refused(int8, tmp_path):
    data = int8[1].read_bytes()
    for size in (0, 10, 60, len(data) // 2, len(data) - 1):
        (tmp_path / "head.pte").write_bytes(data[:size])
        with pytest.raises(RuntimeError, match="head.pte"):
            Runner(int8[0]).load_draft(tmp_path / "head.pte")
    shutil.copy(int8[1], tmp_path / "head.pte")
    runner = Runner(int8[0])
    runner.load_draft(tmp_path / "head.pte")
    assert runner.generate(PROMPTS[2], 9, "spec", drafter="head").ids


def test_options_of_a_head(int8):
    with pytest.raises(ValueError, match="draft_depth"):
        with_head(int8).generate(PROMPTS[2], 5, draft_depth=0)
