"""What drafting costs where drafts fail: at most 5 % over plain decoding, in chunks and calls counted at their known times.

The model is a step function that sleeps for as long as a chunk is said to take, so that the cost model measures a machine whose
times are known; the bill is then made of counts, and a busy machine does not change it.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from runtime_delegates.runner import Runner

VOCAB, TOKENS = 24, 400


def chunk_ms(tokens: int) -> float:
    return 2 + 0.6 * (tokens - 1)


class Timed:
    """A StepModel whose next token depends on the last one and its position: n-grams recur, and mislead."""

    path, max_context, vocab_size, hidden_size, bos_id, eos_ids = Path("timed"), 2048, VOCAB, 2, None, []
    fingerprint = tokenizer_fingerprint = 0

    def run_chunk(self, ids, positions, n_past, tree_mask, kv_src, logits_start):
        time.sleep(chunk_ms(ids.shape[1]) / 1e3)
        logits = np.zeros((1, ids.shape[1], VOCAB), np.float32)
        for i, (token, position) in enumerate(zip(ids[0], positions)):
            logits[0, i, following(int(token), int(position))] = 1
        return logits, np.zeros((1, ids.shape[1], 2), np.float32)


def following(token: int, position: int) -> int:
    return (token * 7 + (position * 2654435761 >> 7) + 3) % VOCAB


def chain(context, length, wrong):
    token, rows = context[-1], []
    for i in range(length):
        token = (following(token, len(context) - 1 + i) + wrong) % VOCAB
        rows.append((token, i, 0.9))
    return rows


class Drafter:
    """A chain of 6, right or wrong from some place on, sure of itself, and as slow as it is said to be."""

    def __init__(self, wrong_from: int = 0, ms: float = 0) -> None:
        self.wrong_from, self.ms, self.calls = wrong_from, ms, 0

    def __call__(self, context, max_tokens, max_depth):
        self.calls += 1
        time.sleep(self.ms / 1e3)
        return chain(context, min(6, max_tokens, max_depth), len(context) >= self.wrong_from)


def bill(result, drafter) -> float:
    """Milliseconds of decoding, counted."""
    return sum(chunk_ms(t) * n for t, n in result.chunks.items()) + (drafter.calls * drafter.ms if drafter else 0)


@pytest.mark.parametrize("drafter", [None, Drafter(), Drafter(ms=0.5), Drafter(ms=2), Drafter(ms=20)],
                         ids=["n-grams that mislead", "free", "a quarter of a token", "a token", "ten tokens"])
def test_auto_loses_at_most_a_twentieth_where_drafts_fail(drafter):
    runner = Runner(Timed())
    runner.set_drafter(drafter)
    prompt = [1, 2, 3]
    plain = runner.generate(prompt, TOKENS, "plain")
    if drafter is not None:
        drafter.calls = 0
    auto = runner.generate(prompt, TOKENS, "auto")
    assert auto.ids == plain.ids and len(auto.ids) == TOKENS
    assert bill(auto, drafter) <= 1.05 * bill(plain, None), auto.chunks
    spec = runner.generate(prompt, 100, "spec")
    assert bill(spec, None) > 1.3 * bill(plain, None) * 99 / (TOKENS - 1)  # these drafts would cost that much


def test_auto_gives_up_drafts_that_turn_bad_and_takes_up_good_ones():
    runner, drafter = Runner(Timed()), Drafter(wrong_from=200, ms=0.5)
    runner.set_drafter(drafter)
    result = runner.generate([1, 2, 3], TOKENS, "auto")
    good, bad = 197, TOKENS - 197
    assert bill(result, drafter) < 0.75 * good * chunk_ms(1) + 1.07 * bad * chunk_ms(1)
    assert result.accepted_tokens > good / 2
    drafter.wrong_from = 10**6
    better = runner.generate([4, 5], TOKENS, "auto")
    assert bill(better, drafter) < 0.9 * TOKENS * chunk_ms(1)


class Changing(Timed):
    """Chunks of several tokens take four times as long while it is cold; its text is a loop where it `repeats`, so that the
    built-in n-grams, which take no time to speak of, are right."""

    cold, repeats = False, True

    def run_chunk(self, ids, positions, *rest):
        if ids.shape[1] > 1 and self.cold:
            time.sleep(3 * chunk_ms(ids.shape[1]) / 1e3)
        if not self.repeats:
            return super().run_chunk(ids, positions, *rest)
        time.sleep(chunk_ms(ids.shape[1]) / 1e3)
        logits = np.zeros((1, ids.shape[1], VOCAB), np.float32)
        logits[0, np.arange(ids.shape[1]), (ids[0] + 1) % VOCAB] = 1
        return logits, np.zeros((1, ids.shape[1], 2), np.float32)


def test_times_that_were_wrong_at_first_are_found_out():
    model = Changing()
    runner, model.cold = Runner(model), True
    runner.generate([1, 2, 3], 2, "auto")  # measures
    model.cold = False
    result = runner.generate([1, 2, 3], 2 * TOKENS, "auto")
    assert result.accepted_tokens > TOKENS / 2, result.chunks


def test_a_busy_moment_while_measuring_does_not_stay():
    """The sizes that were measured once took a hundred times as long: no size takes more than twice that of half the tokens."""

    class Busy(Timed):
        def run_chunk(self, ids, *rest):
            if ids.shape[1] >= 16:
                time.sleep(0.3)
            return super().run_chunk(ids, *rest)

    times = Runner(Busy()).generate([1, 2, 3], 3, "auto").chunk_ms
    assert all(times[t] <= times[2 * t] * 1.0001 and times[2 * t] <= 2.0001 * times[t] for t in (1, 2, 4, 8, 16, 32))


def test_another_text_is_given_a_chance():
    """Drafts fail to the end of one text; in the next one they are right, and are soon verified again."""
    model = Changing()
    runner, model.repeats = Runner(model), False
    runner.generate([1, 2, 3], 300, "auto")
    model.repeats = True
    result = runner.generate(list(range(2, 23)), TOKENS, "auto")
    assert result.accepted_tokens > TOKENS / 4, result.chunks
