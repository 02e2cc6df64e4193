"""Wrong inputs of a run: clear errors, and a handle that still works as if nothing had happened."""

import math
import struct

import numpy as np
import pytest
import torch

from tests.delegate.programs import (
    CONTEXT,
    NO_COMPACTION,
    Dense,
    Ffn,
    Gqa,
    Mla,
    Stack,
    causal,
    chunk,
    execute,
    kept,
    load,
)

SEVEN = torch.zeros(1, 7, dtype=torch.int64)


def step(tokens, past, /, **changes):
    """Inputs of the whole decoder, with some replaced."""
    names = ("ids", "positions", "n_past", "tree_mask", "kv_src", "logits_start")
    ids = torch.arange(tokens)[None] % Stack.V
    values = dict(zip(names, (ids, *chunk(tokens, past), torch.tensor([0])), strict=True))
    assert set(changes) <= set(values)
    return tuple((values | changes).values())


@pytest.fixture(scope="module")
def decoder(lowered):
    return lowered("stack-int8", Stack("int8"), step(7, 0))[0]


def run(method, lengths, n_past=0):
    out = []
    for length in lengths:
        out.append(execute(method, *step(length, n_past))[1])
        n_past += length
    return np.concatenate(out)


EMPTY = torch.zeros(0, dtype=torch.int64)
mask = lambda *bits: torch.tensor(bits)  # noqa: E731

# name: inputs after 20 tokens have been run, and our sentence (None: ExecuTorch refuses before we see it)
REFUSED = {
    "T = 0": (step(7, 20, ids=EMPTY[None], positions=EMPTY, tree_mask=EMPTY), "1 to 64 tokens"),
    "T = 65": (step(65, 20), None),
    "int32 ids": (step(7, 20, ids=SEVEN.int()), None),
    "float positions": (step(7, 20, positions=torch.arange(7).float()), None),
    "ids of rank 1": (step(7, 20, ids=SEVEN[0]), None),
    "ids not contiguous": (step(7, 20, ids=torch.zeros(1, 14, dtype=torch.int64)[:, ::2]), None),
    "fewer positions than ids": (step(7, 20, positions=torch.arange(3)), "disagree on the number of tokens"),
    "two n_past": (step(7, 20, n_past=torch.tensor([20, 20])), None),
    "kv_src too short": (step(7, 20, kv_src=torch.full((63,), -1)), None),
    "an argument missing": (step(7, 20)[:5], None),
    "id above the vocabulary": (step(7, 20, ids=SEVEN + Stack.V), "token id is outside the vocabulary"),
    "negative id": (step(7, 20, ids=SEVEN - 1), "token id is outside the vocabulary"),
    "huge id": (step(7, 20, ids=SEVEN + (1 << 40)), "token id is outside the vocabulary"),
    "n_past beyond the written rows": (step(7, 21), "rows that no earlier call has written"),
    "negative n_past": (step(7, 20, n_past=torch.tensor([-1])), "n_past is negative"),
    "n_past at the end of int64": (step(7, 20, n_past=torch.tensor([2**63 - 1])), "context is full"),
    "negative position": (step(2, 20, positions=mask(20, -1)), "a position is negative"),
    "huge position": (step(2, 20, positions=mask(20, 1 << 24)), "a position is negative or above"),
    "token that does not see itself": (step(2, 20, tree_mask=mask(1, 1)), "must see itself"),
    "token that sees a later one": (step(2, 20, tree_mask=mask(3, 2)), "sees a later one"),
    "kept rows in the wrong order": (step(2, 20, kv_src=kept(1, 0)), "kv_src must ascend"),
    "a kept row twice": (step(2, 20, kv_src=kept(1, 1)), "kv_src must ascend"),
    "kept row after a gap": (step(2, 20, kv_src=kept(0, -1, 1)), "kv_src: rows to keep must come first"),
    "kept row that was never written": (step(2, 20, kv_src=kept(0, 60)), "previous chunk did not write"),
    "kept row beyond a chunk": (step(2, 20, kv_src=kept(0, 1 << 40)), "previous chunk did not write"),
    "more kept rows than the past": (step(2, 1, kv_src=kept(0, 1)), "keeps more rows than n_past counts"),
    "logits_start after the chunk": (step(7, 20, logits_start=torch.tensor([8])), "logits_start is outside"),
    "negative logits_start": (step(7, 20, logits_start=torch.tensor([-1])), "logits_start is outside"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_forgotten(decoder, backend, case):
    inputs, sentence = REFUSED[case]
    method = load(decoder)
    run(method, [20])
    backend.take_stats()
    backend.last_error()
    with pytest.raises(RuntimeError):
        method.execute(inputs)
    error = backend.last_error()
    assert error == "" if sentence is None else sentence in error
    assert backend.take_stats().calls == 0
    # Nothing moved in the caches: the next step gives the bits of a run without the refused call.
    assert np.array_equal(run(method, [5], 20), run(load(decoder), [20, 5])[20:])


def test_context_overflow(decoder, backend):
    method = load(decoder)
    run(method, [50, 50, 49])
    with pytest.raises(RuntimeError):
        method.execute(step(2, 149))
    assert "context is full" in backend.last_error() and "--max-context" not in backend.last_error()
    run(method, [1], 149)  # the last row still fits
    with pytest.raises(RuntimeError):
        method.execute(step(1, CONTEXT))
    assert np.array_equal(run(method, [4]), run(load(decoder), [4]))  # starting again at 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
class TestNonFinite:
    """Never a silent number: quantization must not turn NaN into zero."""

    def test_dense_ops(self, lowered, backend, quant, bad):
        module = Dense(quant, "odd")
        path, _ = lowered(f"dense-{quant}-odd", module, module.inputs(7))
        method = load(path)
        before = execute(method, *module.inputs(7))
        ids, x, gate, start = module.inputs(7)
        for damaged in (
            (x.index_put((torch.tensor(3), torch.tensor(36)), torch.tensor(bad)), gate),
            (x, gate.fill_(bad)),
        ):
            with pytest.raises(RuntimeError, match="0x2"):
                method.execute((ids, *damaged, start))
            assert "not finite" in backend.last_error()
        after = execute(method, *module.inputs(7))
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_sparse_ffn(self, lowered, backend, quant, bad):
        module = Ffn(quant, "odd")
        path, _ = lowered(f"ffn-{quant}-odd", module, module.inputs(7))
        method = load(path)
        x = module.inputs(7)[0]
        before = execute(method, x)
        with pytest.raises(RuntimeError, match="0x2"):
            method.execute((x.index_put((torch.tensor(3), torch.tensor(36)), torch.tensor(bad)),))
        assert "a router score is not finite" in backend.last_error()
        assert all(np.array_equal(a, b) for a, b in zip(before, execute(method, x), strict=True))

    @pytest.mark.parametrize("which", ["q", "kv"])
    def test_latent_attention_loses_only_the_step(self, lowered, backend, quant, bad, which):
        module = Mla(quant)
        path, _ = lowered(f"mla-{quant}", module, (*module.rows(7), *chunk(7, 0)))
        rows = module.rows(12)
        method = load(path)
        execute(method, *(x[:6] for x in rows), *chunk(6, 0))
        q, kv = (x[6:9].clone() for x in rows)
        (q if which == "q" else kv)[1, 4] = bad
        with pytest.raises(RuntimeError, match="0x2"):
            method.execute((q, kv, *chunk(3, 6)))
        assert "not finite" in backend.last_error()
        (again,) = execute(method, *(x[6:9] for x in rows), *chunk(3, 6))
        (want,) = execute(load(path), *(x[:9] for x in rows), *chunk(9, 0))
        assert np.array_equal(again, want[6:])


def test_after_a_failed_step_the_rows_it_may_have_touched_are_gone(lowered, backend):
    """The failed call would have compacted the previous chunk, so that chunk must be run again."""
    module = Gqa(6, 2)
    path, _ = lowered("gqa", module, (*module.rows(7), *chunk(7, 0)))
    rows = module.rows(12)
    method = load(path)
    execute(method, *(x[:8] for x in rows), *chunk(8, 0))
    execute(method, *(x[8:11] for x in rows), *chunk(3, 8))
    bad = [x[11:].clone() for x in rows]
    bad[0][:] = math.nan
    chunk_of_one = torch.tensor([9]), torch.tensor([9]), causal(1), kept(2)
    with pytest.raises(RuntimeError, match="0x2"):
        method.execute((*bad, *chunk_of_one))
    with pytest.raises(RuntimeError, match="0x12"):
        method.execute((*(x[11:] for x in rows), *chunk_of_one[:3], NO_COMPACTION))
    assert "rows that no earlier call has written" in backend.last_error()
    along = [10, 11]
    (got,) = execute(method, *(x[along] for x in rows), *chunk(2, 8))
    (want,) = execute(load(path), *(x[[*range(8), *along]] for x in rows), *chunk(10, 0))
    assert np.array_equal(got, want[8:])


@pytest.mark.parametrize("name", ["bias", "norm"])
def test_damaged_weights_do_not_reach_the_caller(lowered, backend, tmp_path, name):
    """The export refuses NaN, but a file may be damaged later."""
    module = Dense("int8", "odd")
    path, _ = lowered("dense-int8-odd", module, module.inputs(7))
    data, weight = path.read_bytes(), getattr(module, name).numpy().tobytes()
    assert data.count(weight) == 1
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(data.replace(weight, weight[:20] + struct.pack("<f", math.nan) + weight[24:]))
    with pytest.raises(RuntimeError, match="0x2"):
        load(damaged).execute(module.inputs(7))
    assert "not finite" in backend.last_error()
