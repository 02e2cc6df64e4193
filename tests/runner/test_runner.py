"""The runner on tiny random models: output in every mode and with any drafter against plain decoding in Python."""

import ctypes
import json
import os
import threading
import time

import numpy as np
import pytest

from runtime_delegates.runner import File, Runner, TokenCallback
from runtime_delegates.sampling import Sampler
from runtime_delegates.session import Session
from runtime_delegates.text import ContextFull
from tests.conftest import ROOT
from training.tokenizer import load_tokenizer

MODELS = {  # a random model with a tied head would repeat its last token for ever
    "mla_fp32": dict(quant="fp32", tie_word_embeddings=False),
    "mla_int8": dict(quant="int8", tie_word_embeddings=False),
    "gqa_int4": dict(quant="int4", tie_word_embeddings=False, attention_type="vanilla", num_key_value_heads=2, ffn_type="block"),
}
VOCAB, CONTEXT = 320, 160
rng = np.random.default_rng(7)
PROMPTS = [rng.integers(3, VOCAB, n).tolist() for n in (1, 2, 17, 64, 65, 100)]
PROMPTS += [rng.integers(3, VOCAB, 5).tolist() * 6, [7] * 30]


@pytest.fixture(scope="module", params=MODELS)
def pte(request, tiny_pte):
    return tiny_pte(**MODELS[request.param])


@pytest.fixture(scope="module")
def one_pte(tiny_pte):
    return tiny_pte(**MODELS["mla_int8"])


def decoded(session, prompt, max_tokens, **settings):
    """Ids by plain decoding with Session and Sampler, one token a step."""
    session.reset()
    sampler, ids = Sampler(**settings), []
    logits = session.prefill(prompt)
    while True:
        token = sampler.choose(logits.numpy(), [*prompt, *ids])
        if token in session.eos_ids:
            return ids
        ids.append(token)
        if len(ids) == max_tokens or session.n_past == session.max_context:
            return ids
        logits = session.step([token])[0][-1]


# ---- drafters: each returns rows (token, parent[, confidence]) ----
def random_tree(seed):
    random = np.random.default_rng(seed)

    def draft(context, max_tokens, max_depth):
        rows, depth = [], [0]
        for _ in range(int(random.integers(0, max_tokens + 1))):
            parent = int(random.integers(0, len(rows) + 1))
            if depth[parent] < max_depth:
                rows.append((int(random.integers(0, VOCAB)), parent, float(random.random())))
                depth.append(depth[parent] + 1)
        return rows

    return draft


def oracle_chain(text, wrong_at=None):
    """Proposes how the text goes on, with one wrong token at a depth."""

    def draft(context, max_tokens, max_depth):
        rest = text[len(context) : len(context) + min(max_tokens, max_depth)]
        return [(token if i != wrong_at else (token + 1) % VOCAB, i) for i, token in enumerate(rest)]

    return draft


def oracle_tree(text):
    """The continuation as one branch among wrong ones: a decoy stands before each right token, and another
    hangs below each."""

    def draft(context, max_tokens, max_depth):
        rows, parent = [], 0
        for token in text[len(context) : len(context) + max_depth]:
            if len(rows) + 3 > max_tokens:
                break
            rows += [((token + 5) % VOCAB, parent), (token, parent)]
            parent = len(rows)
            if len(rows) < max_tokens and parent > 2:
                rows.append((token, parent - 1))  # below the decoy
        return [r for r in rows if depth_of(rows, r) <= max_depth]

    return draft


def depth_of(rows, row):
    depth = 1
    while row[1] > 0:
        row, depth = rows[row[1] - 1], depth + 1
    return depth


def nothing(context, max_tokens, max_depth):
    return []


def test_greedy_is_plain_decoding_in_every_mode_and_with_any_drafter(pte):
    session, runner = Session(pte, threads=1), Runner(pte)
    accepted = {}
    for k, prompt in enumerate(PROMPTS):
        want = decoded(session, prompt, 40)
        text = prompt + want
        drafters = {
            "ngram": None, "nothing": nothing, "random": random_tree(k), "exact": oracle_chain(text),
            "exact, then wrong": oracle_chain(text, 2), "wrong": oracle_chain(text, 0), "tree": oracle_tree(text),
        }
        for name, drafter in drafters.items():
            runner.set_drafter(drafter)
            for mode, width in (("plain", 1), ("spec", 1), ("spec", 4), ("auto", 3)):
                if mode == "plain" and name != "ngram":
                    continue
                got = runner.generate(prompt, 40, mode, draft_width=width, draft_tokens=[3, 15, 63][k % 3])
                assert got.ids == want, (name, mode, width, prompt)
                accepted[name, mode] = accepted.get((name, mode), 0) + got.accepted_tokens
    assert accepted["exact", "spec"] > 400 and accepted["tree", "spec"] > 100 and accepted["exact, then wrong", "spec"] > 50
    assert accepted["wrong", "spec"] == accepted["nothing", "spec"] == accepted["ngram", "plain"] == 0


def test_greedy_with_penalty_and_sampling_equal_the_python_sampler(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    for settings in (dict(repetition_penalty=1.5), dict(temperature=0.9, seed=3), dict(temperature=1.3, top_k=20, seed=2**40),
                     dict(temperature=0.7, top_p=0.8, repetition_penalty=1.2, seed=5), dict(temperature=0.05, seed=9)):
        for prompt in (PROMPTS[2], PROMPTS[6]):
            want = decoded(session, prompt, 30, **settings)
            text = prompt + want
            for drafter in (None, oracle_chain(text), oracle_tree(text), random_tree(1)):
                runner.set_drafter(drafter)
                for mode in ("plain", "spec", "auto"):
                    got = runner.generate(prompt, 30, mode, **settings)
                    assert got.ids == want, (settings, mode)


@pytest.mark.parametrize("mode", ["spec", "auto"])
def test_drawn_trees_follow_the_target(one_pte, mode):
    """Chi-square of the first three tokens against exact probabilities, with a drafter that draws a tree."""
    settings, prompt = dict(temperature=1.0, top_k=3), PROMPTS[2]
    session, runner = Session(one_pte), Runner(one_pte)
    sampler = Sampler(**settings)

    def distribution(ids):
        session.reset()
        return sampler.probabilities(session.prefill(ids).numpy())

    exact, tables = {}, {}
    for a in np.flatnonzero(p_a := distribution(prompt)):
        tables[int(a),] = p_b = distribution([*prompt, a])
        for b in np.flatnonzero(p_b):
            tables[int(a), int(b)] = p_c = distribution([*prompt, a, b])
            exact |= {(int(a), int(b), int(c)): p_a[a] * p_b[b] * p_c[c] for c in np.flatnonzero(p_c)}
    assert sum(exact.values()) == pytest.approx(1) and len(exact) == 27

    # The drafter's distribution: the target's reversed and blurred, so close enough to be accepted at times.
    random = np.random.default_rng(4)

    def draw(prefix):
        p = tables.get(prefix)
        q = np.full(VOCAB, 0.1 / VOCAB)
        if p is not None:
            support = np.flatnonzero(p)
            q[support] += 0.9 * p[support][::-1]
        else:
            q += 0.9 / VOCAB
        return min(int(np.searchsorted(np.cumsum(q), random.random())), VOCAB - 1), q

    def draft(context, max_tokens, max_depth):
        prefix, rows, paths = tuple(context[len(prompt) :]), [], [()]
        for parent in range(3):  # two children of rows 0, 1 and 2
            if len(paths[parent]) == max_depth:
                break
            for _ in range(2):
                token, q = draw(prefix + paths[parent])
                rows.append((token, parent, 0.5, q))
                paths.append((*paths[parent], token))
        return rows

    runner.set_drafter(draft)
    runs, counts, accepted = 2500, dict.fromkeys(exact, 0), 0
    for seed in range(runs):
        result = runner.generate(prompt, 3, mode, seed=seed, draft_tokens=6, **settings)
        counts[tuple(result.ids)] += 1  # KeyError: a token of probability 0
        accepted += result.accepted_tokens
    assert accepted > (runs / 10 if mode == "spec" else 0)  # auto finds that this does not pay
    small = sum(p for p in exact.values() if p * runs < 5)
    cells = [(counts[k], p * runs) for k, p in exact.items() if p * runs >= 5]
    cells += [(runs - sum(c for c, _ in cells), small * runs)] if small else []
    freedom = len(cells) - 1
    assert sum((c - e) ** 2 / e for c, e in cells) <= freedom + 6 * np.sqrt(2 * freedom)


def test_an_observer_sees_the_trees_and_what_became_of_them(one_pte):
    session, runner, cycles = Session(one_pte), Runner(one_pte), []
    text = PROMPTS[2] + decoded(session, PROMPTS[2], 40)
    runner.set_drafter(oracle_tree(text))
    runner.set_observer(cycles.append)
    for mode in ("spec", "auto", "plain"):
        cycles.clear()
        result = runner.generate(PROMPTS[2], 40, mode)
        assert len(cycles) == result.cycles
        assert sum(verified for rows in cycles for *_, verified, _ in rows) == result.drafted_tokens + result.cycles
        known = len(PROMPTS[2])
        for rows in cycles:
            kept = [row for row in rows if row[4]]
            assert kept[0][:2] == (text[known], -1) and all(verified for *_, verified, _ in kept)
            assert [row[0] for row in kept] == text[known : known + len(kept)]  # row 0 and what was accepted of the tree
            assert all(rows[parent][4] for _, parent, *_ in kept[1:])
            known += len(kept)
        assert (mode == "plain") == all(len(rows) == 1 for rows in cycles)
    runner.set_observer(lambda rows: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        runner.generate(PROMPTS[2], 40, "spec")
    runner.set_observer(None)
    cycles.clear()
    assert runner.generate(PROMPTS[2], 40, "spec").ids == text[17:57] and not cycles


def test_token_budget_is_exact(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    text = PROMPTS[2] + decoded(session, PROMPTS[2], 40)
    runner.set_drafter(oracle_chain(text))
    for budget in range(1, 20):
        result = runner.generate(PROMPTS[2], budget, "spec")
        assert result.ids == text[17 : 17 + budget] and result.stopped_by == "max tokens"


def test_callback_ends_in_mid_chunk_and_the_next_turn_goes_on(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    text = PROMPTS[2] + decoded(session, PROMPTS[2], 40)
    for drafter in (oracle_chain(text), oracle_tree(text)):
        runner.set_drafter(drafter)
        for stop_after in (1, 2, 5, 9):
            seen = []
            result = runner.generate(PROMPTS[2], 40, "spec", on_token=lambda t: seen.append(t) or len(seen) == stop_after)
            assert result.ids == seen == text[17 : 17 + stop_after] and result.stopped_by == "callback"
            # What was accepted is in the context: only the last token has to run.
            again = runner.generate(text[: 17 + stop_after], 10, "spec")
            assert again.ids == text[17 + stop_after : 27 + stop_after]
            assert again.reused_tokens == 17 + stop_after - 1


def test_end_of_text_ends_at_once(tiny_pte, one_pte):
    """Sampling at a high temperature meets the end-of-text token sooner or later."""
    session, runner = Session(one_pte), Runner(one_pte)
    ended = 0
    for seed in range(30):
        settings = dict(temperature=3.0, seed=seed)
        want = decoded(session, PROMPTS[1], 100, **settings)
        runner.set_drafter(oracle_chain(PROMPTS[1] + want + [2] * 10))
        for mode in ("plain", "spec"):
            result = runner.generate(PROMPTS[1], 100, mode, **settings)
            assert result.ids == want
            assert (result.stopped_by == "end of text") == (len(want) < 100)
        ended += len(want) < 100
    assert ended > 2


# ---- context ----
@pytest.mark.parametrize("mode", ["plain", "spec", "auto"])
@pytest.mark.parametrize("length", [100, 150, 157, 159, 160])
def test_context_full(one_pte, mode, length):
    prompt = (PROMPTS[5] * 2)[:length]
    want = decoded(Session(one_pte), prompt, 500)
    runner = Runner(one_pte)
    for drafter in (None, oracle_chain(prompt + want), oracle_tree(prompt + want)):
        runner.set_drafter(drafter)
        result = runner.generate(prompt, 500, mode)
        assert result.ids == want
        assert result.stopped_by == ("context full" if len(want) == CONTEXT - length + 1 else "end of text")


def test_prompt_longer_than_the_context(one_pte):
    runner = Runner(one_pte)
    with pytest.raises(ContextFull, match="the prompt has 161 tokens, the program's max_context is 160"):
        runner.generate([5] * 161)
    assert runner.generate([5] * 160, 5).stopped_by in ("context full", "end of text")


def test_turns_reuse_their_common_beginning(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    context, random = [], np.random.default_rng(2)
    for turn in range(12):
        kind = turn % 4
        if kind == 0:
            context = random.integers(3, VOCAB, 30).tolist()
        elif kind == 1:  # a question after the answer
            context = [*context, *random.integers(3, VOCAB, 7).tolist()]
        elif kind == 2:  # another turn in place of the last tokens
            context = [*context[:-4], *random.integers(3, VOCAB, 9).tolist()]
        else:  # back to an earlier beginning
            context = context[:20]
        want = decoded(session, context, 12)
        runner.set_drafter(oracle_tree(context + want) if turn % 2 else None)
        result = runner.generate(context, 12, ("spec", "plain", "auto")[turn % 3])
        assert result.ids == want
        if kind:
            assert result.reused_tokens >= (19 if kind == 3 else len(context) - 10)
        context = context + want
    assert runner.generate(context[:-1], 1).reused_tokens > 20
    runner.reset()
    assert runner.generate(context[:-1], 1).reused_tokens == 0


# ---- text ----
@pytest.fixture(scope="module")
def talker(one_pte, tiny_tokenizer):
    runner = Runner(one_pte)
    runner.load_tokenizer(tiny_tokenizer)
    return runner


def test_text_is_the_text_of_the_tokens(talker, tiny_tokenizer):
    tokenizer = load_tokenizer(tiny_tokenizer)
    for prompt in ("The runtime reads", "naïve 你好 😀", "", "  \n\tx </s> y"):
        ids = [1, *tokenizer.encode(prompt)]
        assert talker.encode(prompt) == ids and talker.encode(prompt, add_bos=False) == ids[1:]
        for settings in (dict(), dict(temperature=1.2, seed=4)):
            want = talker.generate(ids, 50, **settings).ids
            for mode in ("plain", "spec", "auto"):
                pieces = []
                result = talker.generate_text(prompt, 50, mode, on_text=pieces.append, **settings)
                assert result.text == tokenizer.decode(want) == "".join(pieces) and all(pieces)
                assert result.generated_tokens == len(want)
                assert result.stopped_by in ("max tokens", "end of text")


def test_stop_strings_end_the_run_in_mid_chunk(talker):
    full = talker.generate_text("The runtime reads", 60).text
    for at in (1, 5, 11, 30):
        stop = full[at : at + 3]
        for mode in ("plain", "spec", "auto"):
            result = talker.generate_text("The runtime reads", 60, mode, stop=["never", "", stop])
            assert result.text == full[: full.index(stop)] and result.stopped_by == "stop string"
            assert result.generated_tokens < 60
    assert talker.generate_text("The runtime reads", 60, stop=[full[-1] + "x"]).text == full  # held back, then given


def test_on_text_ends_and_cancels_the_run(talker):
    full = talker.generate_text("The runtime reads", 60).text
    for mode in ("plain", "spec"):
        seen = []
        result = talker.generate_text("The runtime reads", 60, mode, on_text=lambda piece: seen.append(piece) or len(seen) == 3)
        assert result.stopped_by == "callback" and full.startswith("".join(seen)) and len(seen) == 3
        result = talker.generate_text("The runtime reads", 60, "plain", on_text=lambda piece: talker.cancel())
        assert result.stopped_by == "cancelled" and full.startswith(result.text) and len(result.text) < len(full)
    with pytest.raises(ZeroDivisionError):
        talker.generate_text("x", 5, on_text=lambda piece: 1 / 0)


def test_chat_turns_reuse_the_context(one_pte, tiny_tokenizer, tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message"
                                  "['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
                                  "{{ '<|im_start|>assistant\\n' }}{% endif %}"}))
    runner = Runner(one_pte)
    with pytest.raises(ValueError, match="no tokenizer is loaded"):
        runner.generate_text("x")
    runner.load_tokenizer(tiny_tokenizer)
    assert runner.chat_template == ""
    with pytest.raises(ValueError, match="no chat template"):
        runner.generate_chat([("user", "x")])
    runner.load_tokenizer(tiny_tokenizer / "tokenizer.json", config)
    assert runner.chat_template == "chatml"
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    first = runner.generate_chat([("user", "Hi")], 8)
    ids = runner.generate(runner.encode(text, add_bos=False), 8).ids  # the configuration asks for no bos
    assert first.text == load_tokenizer(tiny_tokenizer).decode(ids)
    assert first.prompt_tokens == len(runner.encode(text, add_bos=False))
    again = runner.generate_chat([("user", "Hi"), ("assistant", first.text), ("user", "x")], 5)
    assert again.reused_tokens >= len(runner.encode(text, add_bos=False)) - 1
    with pytest.raises(ValueError, match="role 'robot'"):
        runner.generate_chat([("robot", "x")])


def test_tokenizers_that_do_not_fit(one_pte, talker, tmp_path):
    shipped = ROOT / "checkpoints/blockffn-22m-docs/tokenizer.json"
    with pytest.raises(RuntimeError, match="8192 tokens, but the program knows 320"):
        talker.load_tokenizer(shipped)
    with pytest.raises(RuntimeError, match="nowhere.json: No such file"):
        talker.load_tokenizer(tmp_path / "nowhere.json")
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(RuntimeError, match="config.json: not valid JSON"):
        talker.load_tokenizer(shipped, tmp_path / "config.json")
    assert talker.generate_text("still here", 3).generated_tokens == 3
    with pytest.raises(ContextFull, match="max_context is 160"):
        talker.generate_text("x " * 500)


# ---- cancel, threads ----
def test_cancel_from_the_callback_ends_within_the_cycle(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    text = PROMPTS[2] + decoded(session, PROMPTS[2], 60)
    runner.set_drafter(oracle_chain(text))
    for mode, most in (("plain", 1), ("spec", 1 + 8)):
        result = runner.generate(PROMPTS[2], 60, mode, draft_tokens=8, on_token=lambda t: runner.cancel())
        assert result.stopped_by == "cancelled" and 1 <= len(result.ids) <= most
        assert result.ids == text[17 : 17 + len(result.ids)]
    assert len(runner.generate(PROMPTS[2], 60, "spec").ids) == 60  # a cancel does not outlive its run


def test_two_runners_at_once_and_one_runner_twice(one_pte):
    want = Runner(one_pte).generate(PROMPTS[3], 60, "plain").ids
    results, started, entered = {}, threading.Barrier(2), threading.Event()

    def work(name):
        runner = Runner(one_pte)
        started.wait()
        results[name] = [runner.generate(PROMPTS[3], 60, mode).ids for mode in ("plain", "spec", "auto")]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == {0: [want] * 3, 1: [want] * 3}

    runner, release = Runner(one_pte), threading.Event()
    thread = threading.Thread(target=runner.generate, args=(PROMPTS[3], 60, "plain"),
                              kwargs=dict(on_token=lambda t: entered.set() or release.wait() and False))
    thread.start()
    entered.wait()
    with pytest.raises(RuntimeError, match="running already"):
        runner.generate([1])
    runner.cancel()
    release.set()
    thread.join(30)
    assert not thread.is_alive()


# ---- cost ----
def test_auto_stops_asking_a_slow_drafter_that_is_wrong(one_pte):
    session, runner, calls = Session(one_pte), Runner(one_pte), []
    text = PROMPTS[0] + decoded(session, PROMPTS[0], 150)
    wrong = oracle_chain(text, 0)

    def slow(context, max_tokens, max_depth):
        calls.append(1)
        time.sleep(0.003)
        return [(*row, 0.1) for row in wrong(context, 4, max_depth)]

    runner.set_drafter(slow)
    result = runner.generate(PROMPTS[0], 150, "auto")
    assert result.ids == text[1:] and len(result.ids) > 100
    assert len(calls) < result.cycles / 4
    assert result.drafted_tokens < result.cycles / 2


def test_auto_drafts_where_it_pays(one_pte):
    session, runner = Session(one_pte), Runner(one_pte)
    text = PROMPTS[0] + decoded(session, PROMPTS[0], 150)
    exact = oracle_chain(text)
    runner.set_drafter(lambda *a: [(*row, 0.95) for row in exact(*a)])
    result = runner.generate(PROMPTS[0], 150, "auto")
    assert result.ids == text[1:] and result.tokens_per_cycle > 2
    measured = [result.chunk_ms[t] for t in (1, 2, 4, 8, 16, 32, 64)]
    assert measured == sorted(measured) and measured[0] > 0 and result.calibrate_ms > 0


# ---- statistics, memory ----
def test_statistics_add_up(one_pte):
    runner = Runner(one_pte)
    result = runner.generate(PROMPTS[6], 50, "spec", draft_tokens=7, draft_width=2)
    assert len(result.ids) == 50
    assert sum(result.emitted.values()) == result.cycles
    assert sum(k * n for k, n in result.emitted.items()) == 49
    assert 0 < result.accepted_tokens <= result.drafted_tokens <= 7 * result.cycles
    assert result.cycles + result.accepted_tokens == 49
    assert result.tokens_per_cycle == 49 / result.cycles
    assert set(result.union_share) <= set(range(1, 9)) and all(0 < share <= 1 for share in result.union_share.values())
    assert result.draft_ms + result.verify_ms + result.other_ms == pytest.approx(result.decode_ms)
    assert 0 < result.prefill_ms <= result.ttft_ms and 0 < result.prefill_union_share <= 1
    assert result.peak_rss_bytes > 10e6 and result.kernels
    assert result.decode_tokens_per_s == pytest.approx(49e3 / result.decode_ms, rel=1e-3)


def test_dense_model_has_no_union(tiny_pte):
    result = Runner(tiny_pte(ffn_type="vanilla")).generate(PROMPTS[2], 5)
    assert result.union_share == {} and result.prefill_union_share is None


def test_the_program_is_mapped_and_not_locked(one_pte):
    runner = Runner(one_pte)
    runner.generate(PROMPTS[2], 2)
    blocks = open("/proc/self/smaps").read().split("VmFlags")
    mine = [block for block in blocks if str(one_pte) in block]
    assert mine
    assert all(int(line.split()[1]) == 0 for block in mine for line in block.splitlines() if line.startswith("Locked:"))


# ---- errors ----
@pytest.mark.parametrize("options, message", [
    (dict(prompt_ids=[]), "no tokens"), (dict(prompt_ids=[320]), "0 to 319"), (dict(prompt_ids=[-1]), "0 to 319"),
    (dict(prompt_ids=[2**40]), "0 to 319"), (dict(max_tokens=0), "max_tokens"), (dict(mode="fast"), "plain, spec, auto"),
    (dict(draft_tokens=0), "1 to 63"), (dict(draft_tokens=64), "1 to 63"), (dict(draft_width=0), "draft_width"),
    (dict(temperature=-1.0), "temperature"), (dict(temperature=float("nan")), "temperature"), (dict(top_k=-1), "top_k"),
    (dict(top_p=0.0), "top_p"), (dict(top_p=1.5), "top_p"), (dict(repetition_penalty=0.0), "repetition_penalty"),
    (dict(seed=-1), "seed"), (dict(colour=1), "no option colour"),
], ids=str)
def test_bad_arguments(one_pte, options, message):
    runner = Runner(one_pte)
    with pytest.raises(ValueError, match=message):
        runner.generate(**dict(prompt_ids=[1, 2]) | options)
    assert runner.generate(PROMPTS[2], 3, "plain").ids  # still usable


@pytest.mark.parametrize("proposal, message", [
    ([(320, 0)], "proposed token 320, but the program has 320 tokens; use a draft model with the same tokenizer"),
    ([(-1, 0)], "proposed token -1"), ([(5, 1)], "before its parent"), ([(5, -1)], "before its parent"),
    ([(5, 0)] * 9, "more than 8"), ([(5, i) for i in range(8)], "longer branch"), ([(5, 0, 1.5)], "confidence"),
    ([(5, 0, float("nan"))], "confidence"),
], ids=str)
def test_drafters_that_break_the_rules(one_pte, proposal, message):
    runner = Runner(one_pte)
    runner.set_drafter(lambda context, max_tokens, max_depth: proposal)
    with pytest.raises((RuntimeError, ValueError), match=message):
        runner.generate(PROMPTS[2], 6, "spec", draft_tokens=8)
    runner.set_drafter(None)
    assert runner.generate(PROMPTS[2], 6, "spec").ids == Runner(one_pte).generate(PROMPTS[2], 6, "plain").ids


def test_exceptions_of_callbacks_come_back(one_pte):
    runner = Runner(one_pte)

    def fail(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        runner.generate(PROMPTS[2], 5, "plain", on_token=fail)
    runner.set_drafter(fail)
    with pytest.raises(KeyError, match="mine"):
        runner.generate(PROMPTS[2], 5, "spec")
    assert runner.generate(PROMPTS[2], 5, "plain").ids


def test_a_range_of_a_descriptor_is_mapped_in_place(one_pte, tmp_path):
    """As a file inside an APK: at a page, and at a multiple of 64 bytes that is none."""
    data, want = one_pte.read_bytes(), Runner(one_pte).generate(PROMPTS[2], 20, "plain").ids
    for at in (0, 4096, 64 * 7, 4096 * 3 + 64):
        container = tmp_path / f"container{at}"
        container.write_bytes(bytes(at) + data + b"tail" * 100)
        for named in (False, True):
            fd = os.open(container, os.O_RDONLY)
            try:
                runner = Runner(File(path=os.fsencode(container) if named else None, fd=-1 if named else fd, offset=at,
                                     bytes=len(data)))
            finally:
                os.close(fd)
            assert runner.generate(PROMPTS[2], 20, "spec").ids == want
            maps = open("/proc/self/maps").read()
            assert str(container) in maps
            runner.close()
    assert Runner(File(path=os.fsencode(tmp_path / "container4096"), fd=-1, offset=4096)).generate([5], 1).ids  # to the end


def test_experts_may_change_from_run_to_run(pte):
    """Greedy and sampled, plain and speculative: the same ids, over one context, and the counters show who read what."""
    runner = Runner(pte)
    prompt = PROMPTS[-2]
    for mode in ("plain", "spec", "auto"):
        for settings in ({}, dict(temperature=0.9, seed=3)):
            of = {which: runner.generate(prompt, 24, mode, experts=which, **settings) for which in ("active", "all", "active")}
            assert of["all"].ids == of["active"].ids and of["all"].reused_tokens >= len(prompt) - 2
            assert set(of["all"].union_share.values()) == {1}
            assert mode != "plain" or of["active"].union_share[1] < 1
    with pytest.raises(ValueError, match="experts 'most'"):
        runner.generate(prompt, 2, experts="most")
    raw = runner._options(2, "plain", {})
    raw.experts = 2
    assert runner._lib.blockffn_runner_generate(runner._handle, (ctypes.c_int32 * 1)(5), 1, ctypes.byref(raw), TokenCallback(), None) == 1
    assert b"active (0) or all (1)" in runner._lib.blockffn_runner_last_error(runner._handle)


@pytest.mark.parametrize("offset, size, message", [
    (-1, 10, "before its beginning"), (0, -1, "before its beginning"), (10**9, 0, "truncated"), (0, 10**9, "truncated"),
    (64, 2**63 - 1, "truncated"), (2**62, 2**62, "truncated"), (1, 0, "not an ExecuTorch program"), (0, 100, "truncated"),
    (0, 10, "not an ExecuTorch program"),
])
def test_ranges_outside_the_file(one_pte, offset, size, message):
    with pytest.raises(RuntimeError, match=message):
        Runner(File(path=os.fsencode(one_pte), fd=-1, offset=offset, bytes=size))


def test_a_container_that_does_not_align_the_program(one_pte, tmp_path):
    (tmp_path / "container").write_bytes(bytes(33) + one_pte.read_bytes())
    with pytest.raises(RuntimeError, match="multiple of 64"):
        Runner(File(path=os.fsencode(tmp_path / "container"), fd=-1, offset=33))


def test_descriptors_that_are_no_files(tmp_path):
    with pytest.raises(RuntimeError, match="neither a path nor a descriptor"):
        Runner(File(fd=-1))
    with pytest.raises(RuntimeError, match="the program: Bad file descriptor"):
        Runner(File(fd=9999))
    reading, writing = os.pipe()
    with pytest.raises(RuntimeError, match="not a regular file"):
        Runner(File(fd=reading))
    os.close(reading), os.close(writing)


def test_files_that_are_no_programs(one_pte, tmp_path):
    data = one_pte.read_bytes()
    cases = {"missing.pte": None, "text.pte": b"hello", "truncated.pte": data[:-100], "head.pte": data[:60],
             "zeros.pte": data[:64] + bytes(len(data) - 64)}
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RuntimeError, match=name) as error:
            Runner(path)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(RuntimeError):
        Runner(tmp_path)
