"""The chunk-sparse FFN of the delegate, against the float64 oracle."""

import numpy as np
import pytest
import torch

from tests.delegate import oracle
from tests.delegate.programs import Ffn, execute, load

QUANTS = ("fp32", "int8", "int4")
NORMS = ("rms", "sum", "none")


@pytest.fixture(scope="module", params=[(q, s) for q in QUANTS for s in Ffn.SIZES], ids="-".join)
def ffn(request, lowered):
    quant, size = request.param
    module = Ffn(quant, size)
    path, delegated = lowered(f"ffn-{quant}-{size}", module, module.inputs(7))
    assert delegated == {"chunk_sparse_ffn": 3}
    return module, path


computed = {}  # what the oracle said: all kernels are judged by it


def expected(m, x, norm):
    key = m.quant, tuple(m.router.shape), norm, x.numpy().tobytes()
    if key not in computed:
        router, up, down = oracle.rows(m.router), [oracle.rows(w) for w in m.up], [oracle.rows(w) for w in m.down]
        computed[key] = oracle.chunk_sparse_ffn(
            oracle.rows(x), router, m.router_norm.tolist(), up, down, *m.settings(norm)
        )
    return computed[key]


def test_random_routers_match_the_oracle(ffn, backend, kernels):
    module, path = ffn
    (x,) = module.inputs(64)
    method = load(path)
    backend.take_stats()
    got = execute(method, x)
    stats = backend.take_stats()
    unions = []
    for y, norm in zip(got, NORMS, strict=True):
        want, bound, union = expected(module, x, norm)
        oracle.check(y, want, bound)
        unions.append(union)
    experts = len(module.router)
    assert (stats.calls, stats.tokens, stats.ffn_calls) == (1, 64, 3)
    assert (stats.experts_read, stats.experts_total) == (sum(unions), 3 * experts)


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 63])
def test_a_token_does_not_depend_on_its_chunk(ffn, tokens, kernels):
    module, path = ffn
    method = load(path)
    whole = execute(method, *module.inputs(64))
    for y, all_rows in zip(execute(method, *module.inputs(tokens)), whole, strict=True):
        assert np.array_equal(y, all_rows[:tokens])


@pytest.mark.parametrize("tokens", [1, 8, 64])
def test_no_expert_active_gives_exact_zeros(ffn, backend, tokens, kernels):
    module, path = ffn
    x = torch.full((tokens, module.router.shape[1]), -1.0)
    backend.take_stats()
    for y in execute(load(path), x):
        assert np.array_equal(y, np.zeros_like(y))
    assert backend.take_stats().experts_read == 0


def test_all_experts_active(ffn, backend, kernels):
    module, path = ffn
    (noise,) = module.inputs(2)
    x = 1 + 0.1 * noise
    backend.take_stats()
    got = execute(load(path), x)
    assert backend.take_stats().read_share == 1
    for y, norm in zip(got, NORMS, strict=True):
        want, bound, union = expected(module, x, norm)
        assert union == len(module.router)
        oracle.check(y, want, bound)


def test_tokens_of_one_chunk_may_use_different_experts(ffn, backend, kernels):
    """Only one token activates anything: the others' rows are exact zeros, and only its experts are read."""
    module, path = ffn
    x = torch.full((8, module.router.shape[1]), -1.0)
    active = module.inputs(64)[0].double() @ module.router.double().T > 0
    some = ((0 < active.sum(dim=1)) & (active.sum(dim=1) < len(module.router))).nonzero()[0, 0]
    x[3] = module.inputs(64)[0][some]
    backend.take_stats()
    got = execute(load(path), x)
    stats = backend.take_stats()
    want, bound, union = expected(module, x, "rms")
    oracle.check(got[0], want, bound)
    assert 0 < stats.experts_read == 3 * union
    assert not np.delete(got[0], 3, axis=0).any()


@pytest.mark.parametrize("tokens", [1, 8, 64])
def test_all_experts_compute_the_same_to_the_bit(ffn, backend, tokens, kernels):
    """Chunks that use some experts, every one and none: what is added for the others is zero times a number."""
    module, path = ffn
    (noise,) = module.inputs(tokens)
    for x in (noise, 1 + 0.1 * noise, torch.full_like(noise, -1.0)):
        method = load(path)
        sparse = execute(method, x)
        backend.take_stats()
        with backend.experts("all"):
            dense = execute(method, x)
        assert backend.take_stats().read_share == 1
        for a, b in zip(sparse, dense, strict=True):
            assert np.array_equal(a.view(np.int32), b.view(np.int32))  # not one zero's sign differs


@pytest.mark.parametrize("quant", QUANTS)
def test_a_single_expert_smaller_than_a_tile(lowered, backend, quant, kernels):
    """One expert of 3 values over 33: fewer experts than threads, less than a tile, a group and a block of eight columns."""
    module = Ffn(quant, (33, 3, 1))
    path, _ = lowered(f"ffn-{quant}-single", module, module.inputs(7))
    (x,) = module.inputs(64)
    want, bound, union = expected(module, x, "rms")
    active = (x.double() @ module.router[0].double() > 0).numpy()
    assert union == 1 and 0 < active.sum() < 64
    got = execute(load(path), x)[0]
    oracle.check(got, want, bound)
    assert not got[~active].any()
    with backend.experts("all"):
        assert np.array_equal(execute(load(path), x)[0], got)


def test_an_inactive_expert_that_overflows_shows_only_when_it_is_computed(lowered, backend, kernels):
    """The limit of the test above: 0 * inf is NaN, which the delegate reports instead of returning it."""
    module = Ffn("fp32", "even")
    with torch.no_grad():
        module.router.copy_(torch.eye(8, 64))  # expert e is active where column e is positive
        module.up[1] = 3e38
    path, _ = lowered("ffn-overflow", module, module.inputs(7))
    x = torch.full((2, 64), 0.5)
    x[:, 1] = -1.0
    method = load(path)
    sparse = execute(method, x)
    assert np.isfinite(sparse).all()
    with backend.experts("all"), pytest.raises(RuntimeError):
        execute(method, x)
    assert "not finite" in backend.last_error()
    assert np.array_equal(execute(method, x), sparse)


def test_experts_of_a_load(lowered, backend, monkeypatch):
    module = Ffn("int8", "even")
    path, _ = lowered("ffn-int8-even", module, module.inputs(7))
    x = torch.full((3, 64), -1.0)  # no expert is active
    for wanted, share in (("all", 1), ("active", 0), ("", 0)):
        monkeypatch.setenv("BLOCKFFN_EXPERTS", wanted)
        method = load(path)
        monkeypatch.delenv("BLOCKFFN_EXPERTS")
        backend.take_stats()
        execute(method, x)
        assert backend.take_stats().read_share == share
    monkeypatch.setenv("BLOCKFFN_EXPERTS", "most")
    with pytest.raises(RuntimeError):
        load(path)
    assert "must be active or all" in backend.last_error()
    with pytest.raises(ValueError, match="choose active or all"), backend.experts("most"):
        pass
    monkeypatch.setenv("BLOCKFFN_EXPERTS", "all")
    monkeypatch.setenv("BLOCKFFN_DEVICE", "gpu")
    load(path)
    assert backend.device == "cpu: all experts are computed on the CPU alone"
