"""The checks before a program is published: they pass what is right and catch planted faults."""

import math

import pytest
import torch

from export import quality
from export.decoder import Decoder
from export.quality import Golden, QualityError
from training.checkpoint import open_checkpoint
from training.tokenizer import load_tokenizer

CONTEXT = 128


class EagerSession:
    """Stands in for a program: an eager Decoder behind Session's interface, with a fault if asked for."""

    max_chunk = 64

    def __init__(self, decoder, fault=lambda step: step):
        self.decoder, self.fault = decoder, fault

    def reset(self):
        self.decoder.reset()
        self.n_past = self.chunk = 0

    def step(self, token_ids, **options):
        options = self.fault({"token_ids": token_ids, **options})
        ids, kept = options["token_ids"], options.get("kv_src")
        self.n_past = self.n_past + self.chunk if kept is None else self.n_past + len(kept)
        kv_src = torch.full((64,), -1)
        kv_src[: len(kept or [])] = torch.tensor(kept or [], dtype=torch.long)
        self.chunk = len(ids)
        positions = options.get("positions", range(self.n_past, self.n_past + self.chunk))
        masks = options.get("tree_mask", [(2 << i) - 1 if i < 63 else -1 for i in range(self.chunk)])
        with torch.no_grad():
            n_past, start = torch.tensor([self.n_past]), torch.tensor([0])
            logits, hidden = self.decoder(torch.tensor([ids]), torch.tensor(list(positions)), n_past,
                                          torch.tensor(masks), kv_src, start)
        return logits[0], hidden[0]


@pytest.fixture(scope="module")
def parts(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint())
    return checkpoint, quality.reference_model(checkpoint, CONTEXT)


def check(parts, fault=lambda step: step, change=lambda decoder: None, reference_change=lambda decoder: None):
    checkpoint, reference = parts
    program, eager = Decoder(checkpoint, "fp32", CONTEXT), Decoder(checkpoint, "fp32", CONTEXT)
    change(program)
    reference_change(eager)
    return quality.check_parity(EagerSession(program, fault), eager, eager, reference)


def test_parity_passes_what_is_right(parts):
    worst = check(parts)
    assert worst["program_vs_eager"] == 0 and worst["eager_vs_reference"] < 1e-5


@pytest.mark.parametrize("fault", [
    lambda step: step | {"tree_mask": [(2 << i) - 1 for i in range(7)]} if len(step["token_ids"]) == 7 else step,
    lambda step: step | {"positions": [p + 1 for p in step["positions"]]} if "positions" in step else step,
    lambda step: step | {"kv_src": [0, 2, 4]} if "kv_src" in step else step,
    lambda step: {key: value for key, value in step.items() if key != "kv_src"},
], ids=["linear mask", "shifted positions", "wrong branch kept", "nothing dropped"])
def test_parity_catches_wrong_chunks(parts, fault):
    with pytest.raises(QualityError, match="of the program against eager"):
        check(parts, fault)


def test_parity_catches_a_wrong_scale_on_either_side(parts):
    def wrong(decoder):
        decoder.layers[1].residual_scale *= 1.01

    with pytest.raises(QualityError, match="of the program against eager"):
        check(parts, change=wrong)
    with pytest.raises(QualityError, match="against the trained model"):
        check(parts, change=wrong, reference_change=wrong)


def test_differences_are_judged_per_element():
    want = torch.tensor([[1.0, 2.0, 0.0], [10.0, 0.0, -20.0]])
    judge = lambda got: quality.worst_difference(got, want, (1e-3, 1e-3), "x")  # noqa: E731
    assert judge(want) == 0
    assert judge(want + torch.tensor([[1e-3, 0, 0], [0, 0, 0]])) == pytest.approx(5e-4, rel=1e-3)
    for row, column, value in ((0, 2, 3e-3), (1, 1, 3e-2), (0, 0, math.nan), (1, 2, math.inf)):
        got = want.clone()
        got[row, column] = value
        with pytest.raises(QualityError, match="1 of 6 values"):
            judge(got)
    with pytest.raises(QualityError, match="instead of"):
        judge(want[:1])
    zero = torch.zeros(2, 2)
    assert quality.worst_difference(zero, zero, (1e-3, 1e-3), "x") == 0
    with pytest.raises(QualityError):
        quality.worst_difference(zero + 1e-20, zero, (1e-3, 1e-3), "x")


def test_small_errors_everywhere_are_caught_by_the_second_bound():
    want = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    noise = 0.05 * torch.randn(20, 50, generator=torch.Generator().manual_seed(1))
    with pytest.raises(QualityError, match="root mean square"):
        quality.worst_difference(want + noise, want, quality.bounds_of("int8", 2), "x")


def test_perplexity_against_plain_loops():
    generator = torch.Generator().manual_seed(0)
    windows = [[3, 1, 4], [1, 5, 9, 2, 6, 5]]
    rows = {len(ids): torch.randn(len(ids), 10, generator=generator) for ids in windows}
    nats, count = 0.0, 0
    for ids in windows:
        for t in range(len(ids) - 1):
            logits = rows[len(ids)][t].tolist()
            nats += math.log(sum(math.exp(v) for v in logits)) - logits[ids[t + 1]]
            count += 1
    for block in (1, 2, 3, 64):
        got = quality.perplexity(windows, lambda ids: rows[len(ids)].split(block))
        assert got == pytest.approx(math.exp(nats / count), rel=1e-12)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_program_that_gives_no_numbers_misses_any_limit(parts, broken):
    class Broken(EagerSession):
        def step(self, token_ids):
            logits, hidden = super().step(token_ids)
            return logits * broken, hidden

    checkpoint, reference = parts
    with pytest.raises(QualityError, match="perplexity"):
        quality.check_perplexity(Broken(Decoder(checkpoint, "fp32", CONTEXT)), reference, [[1, 2, 3, 4]], 1e9)


def test_perplexity_of_reference_and_decoder_agree(parts):
    checkpoint, reference = parts
    windows = [list(range(1, 101)), list(range(200, 220))]
    result = quality.check_perplexity(EagerSession(Decoder(checkpoint, "fp32", CONTEXT)), reference, windows, 1e-5)
    assert result["tokens"] == 120 and abs(result["increase"]) < 1e-5


def test_heldout_windows(tiny_checkpoint, tmp_path):
    tokenizer = load_tokenizer(tiny_checkpoint())
    (tmp_path / "a.txt").write_text("every byte counts " * 100)
    (tmp_path / "b.txt").write_text("only the experts that a chunk of tokens needs " * 100)
    windows = quality.heldout_windows([tmp_path], tokenizer, 320, 150, 100)
    assert [len(window) for window in windows] == [100, 50]
    assert all(window[0] == tokenizer.bos_id for window in windows)
    assert windows == quality.heldout_windows([tmp_path], tokenizer, 320, 150, 100)
    with pytest.raises(ValueError, match="vocabulary has 40"):
        quality.heldout_windows([tmp_path], tokenizer, 40, 150, 100)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="--heldout"):
        quality.heldout_windows([tmp_path / "empty.txt"], tokenizer, 320, 150, 100)


def test_golden_tokens_differ_and_cover_a_tree():
    golden = Golden.of(320)
    assert len(set(golden.prefix)) > 15 and len(golden.tree) == 7
    assert golden.path(5) == [0, 2, 5] == list(quality.KEPT_BRANCH)
    masks = golden.steps()[1]["tree_mask"]
    assert masks == [0b1, 0b11, 0b101, 0b1011, 0b10011, 0b100101, 0b1000101]
    assert golden.steps()[1]["positions"] == [24, 25, 25, 26, 26, 26, 26]
