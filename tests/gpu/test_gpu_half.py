"""The fp16 variant of the passes that multiply, on lavapipe: numbers, range, bits, and what happens without it.

Bounds  of one product W x of weights w and activations x, per element, from shaders/multiply.glsl: each of a unit's two sums
        rounds k = 2, 4 or 8 times (float32, int8, int4 weights), x once before, and so do float32 weights: together
        R = 4, 5 or 9 roundings of 2^-11 of sum |w x|. A half below 2^-14 may be flushed to zero: that much of sum |w| for
        an activation, 2^-20 of sum |x| for a float32 weight (which is multiplied by 64), and as much for each sum of an
        integer row, in units of its scale. What is left is float32's, 2^-24 for each of n + 64 operations.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gpu import table
from tests.delegate.programs import Ffn, Stack, chunk, frozen, on_grid, ops
from tests.gpu.conftest import ROOT, environment, write_steps
from tests.gpu.test_gpu import QUANTS, VALIDATION, logits, text_steps

HALF = 2.0**-11
ROUNDINGS = {"fp32": 4, "int8": 5, "int4": 9}


def product(w, x, quant, x_error=0.0):
    """x W^T in float64 and the bound of its elements."""
    w, x = np.asarray(w, np.float64), np.asarray(x, np.float64)
    size = abs(x) @ abs(w).T
    flushed = 2.0**-14 * abs(w).sum(-1)[None]
    if quant == "fp32":
        flushed = flushed + 2.0**-20 * abs(x).sum(-1, keepdims=True)
    else:
        flushed = flushed + 2.0**-14 * w.shape[-1] * abs(w).max(-1)[None] / (127 if quant == "int8" else 8)
    error = (ROUNDINGS[quant] + 0.5) * HALF * size + flushed + (w.shape[-1] + 64) * 2.0**-24 * size
    return x @ w.T, error + np.broadcast_to(x_error, x.shape) @ abs(w).T


def check(got, want, bound, widest=0.1):
    """Every element in its bound, which the worst case of every rounding makes wide, and within ten times what roundings
    that are independent make. The error is that of halves: neither of float32 nor of anything coarser."""
    got = np.asarray(got, np.float64).reshape(want.shape)
    assert not (~(abs(got - want) <= bound)).any(), (abs(got - want) / bound).max()
    size = np.sqrt(np.mean(want**2))
    assert np.median(bound) < widest * size, "the bound is too wide to prove anything"
    assert not (~(abs(got - want) <= 1e-2 * size)).any(), abs(got - want).max() / size
    assert 2e-5 < np.sqrt(np.mean((got - want) ** 2)) / size < 2e-3


class Linear(nn.Module):
    """One layer; of float32 weights, the first rows of which are too large, too small, or zero."""

    def __init__(self, quant, rows=24, cols=96):
        super().__init__()
        self.quant = quant
        self.weight = frozen(on_grid(np.random.default_rng(4), (rows, cols), quant))
        if quant == "fp32":
            self.weight[:4] *= torch.tensor([1e6, 1e-6, 1e-12, 0.0])[:, None]

    def forward(self, x):
        return ops.linear(x, self.weight, None, 1.0, self.quant)


def activations(tokens, cols, seed=5):
    return np.random.default_rng(seed).normal(size=(tokens, cols)).astype(np.float32)


@pytest.fixture
def layer(request, run_step, files, tmp_path):
    """layer(quant, x, *options) -> (weights, what the layer makes of x)."""

    def run(quant, x, *options):
        module = Linear(quant)
        x = torch.from_numpy(np.ascontiguousarray(x))
        prefix = files(f"half-linear-{quant}", module, (torch.zeros(7, x.shape[1]),))
        got, _, _ = run_step("gpu", prefix, write_steps(tmp_path / "s", [(len(x), (x,))]), *options)
        return module.weight.numpy(), got[0] if isinstance(got[0], str) else got[0].reshape(len(x), -1)

    return run


@pytest.mark.parametrize("quant", QUANTS)
def test_a_layer_against_float64(layer, quant):
    x = activations(11, 96)
    w, got = layer(quant, x, "fp16=1")
    want, bound = product(w, x, quant)
    rows = slice(4, None) if quant == "fp32" else slice(None)
    check(got[:, rows], want[:, rows], bound[:, rows])
    assert not np.array_equal(got, layer(quant, x)[1])


@pytest.mark.parametrize("quant", QUANTS)
def test_no_activation_is_too_large_or_too_small(layer, quant):
    """Tokens of any size, one beside the other: relative to its size each is as good. Beyond the range it is float32's bits."""
    scales = np.float32([1e-36, 1e-9, 1e-5, 1e-3, 1e-2, 0.1, 1, 10, 30, 100, 300, 1e3, 1e4, 6.6e4, 1e6, 1e30])
    x = activations(1, 96) * scales[:, None]
    w, got = layer(quant, x, "fp16=1")
    plain = layer(quant, x)[1]
    want, bound = product(w, x, quant)
    top = abs(x).reshape(len(x), -1, 4).max(-1)  # at most what a unit's largest is
    beyond = (abs(x).max(-1) < 2.0**-5 * (1 - 1e-3)) | (top.min(-1) > 512)
    assert beyond.sum() >= 8 and np.array_equal(got[beyond], plain[beyond])
    rows = slice(4, None) if quant == "fp32" else slice(None)
    assert not (~(abs(got - want)[:, rows] <= bound[:, rows])).any()
    size = np.sqrt(np.mean(want[:, rows] ** 2, axis=1))
    assert not (~(np.sqrt(np.mean((got - want)[:, rows] ** 2, axis=1)) <= 2e-3 * size)).any()
    if quant == "fp32":  # weights beyond the range likewise
        assert np.array_equal(got[:, :4], plain[:, :4]) and np.isfinite(got[scales <= 1e6]).all()


@pytest.mark.parametrize("quant", QUANTS)
def test_one_large_activation_leaves_its_neighbours_alone(layer, quant):
    x = activations(8, 96)
    x[np.arange(8), np.arange(8) * 11] = np.float32([70, 600, 4e3, 7e4, -1e5, 1e8, -1e20, 1e-8])
    w, got = layer(quant, x, "fp16=1")
    want, bound = product(w, x, quant)
    rows = slice(4, None) if quant == "fp32" else slice(None)
    assert not (~(abs(got - want)[:, rows] <= bound[:, rows])).any()
    for bad in (np.inf, np.nan):  # is refused, as in float32
        x[3, 4] = bad
        assert "not finite" in layer(quant, x, "fp16=1")[1]


@pytest.mark.parametrize("quant", QUANTS)
def test_the_sparse_ffn_against_float64(run_step, files, tmp_path, quant):
    module = Ffn(quant, "even")
    x = torch.cat([module.inputs(17)[0], torch.ones(1, 64), -torch.ones(1, 64)])
    prefix = files(f"ffn-{quant}-even", module, module.inputs(7))
    lengths = (19, 1, 7)
    steps = write_steps(tmp_path / "s", [(n, (x[:n],)) for n in lengths])
    got, info, _ = run_step("gpu", prefix, steps, "fp16=1")
    plain, plain_info, _ = run_step("gpu", prefix, steps)
    assert info["experts_read"] == plain_info["experts_read"], "the router's scores are float32 in either arithmetic"
    assert info["arithmetic"] == "fp16" and plain_info["arithmetic"] == "fp32"
    up, down = (p.double().numpy() for p in (module.up, module.down))
    scores = np.maximum(x.double().numpy() @ module.router.double().numpy().T, 0)
    weights = scores / np.sqrt((scores**2).mean(1, keepdims=True) + 1e-5) * module.router_norm.double().numpy() * 0.5
    want, bound = np.zeros((2, 19, 64))
    for e in range(len(up)):
        z, z_error = product(up[e], x, quant)
        h = z / (1 + np.exp(-z))
        y, error = product(down[e], h, quant, 1.1 * z_error + 1e-6 * abs(h))
        want += weights[:, e : e + 1] * y
        bound += abs(weights[:, e : e + 1]) * (error + 1e-5 * abs(h) @ abs(down[e]).T)
    check(got[0], want, bound, widest=0.5)  # two layers, one behind the other
    assert not got[0].reshape(19, -1)[18].any()
    for i in range(3):  # the three router norms
        whole, reference = got[i].reshape(19, -1), plain[i].reshape(19, -1)
        for step, n in enumerate(lengths):
            assert np.array_equal(got[3 * step + i].reshape(n, -1), whole[:n]), "a token's result depends on its chunk"
        assert 2e-5 < np.linalg.norm(whole - reference) / np.linalg.norm(reference) < 2e-3


@pytest.fixture(params=QUANTS)
def stack(request, files):
    return request.param, files(f"stack-{request.param}", Stack(request.param),
                                (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))


def test_a_decoder_stays_near_float32_and_its_chunks_do_not_matter(run_step, stack, tmp_path):
    quant, stack = stack
    one = logits(run_step("gpu", stack, text_steps(tmp_path / "one", [1] * 12), "fp16=1")[0])
    for lengths in ([12], [2, 7, 3]) if quant == "int8" else ([12],):  # compiling the passes for every block takes long
        many = logits(run_step("gpu", stack, text_steps(tmp_path / "many", lengths), "fp16=1")[0])
        assert np.array_equal(one, many), "a token's result depends on its chunk"
    plain = logits(run_step("gpu", stack, text_steps(tmp_path / "one", [12]))[0])
    error = np.linalg.norm(one - plain, axis=1) / np.linalg.norm(plain, axis=1)
    assert not (~((error > 1e-5) & (error < 2e-2))).any(), error


def test_synchronization_validation_is_clean(run_step, files, tmp_path):
    prefix = files("stack-int4", Stack("int4"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    _, info, text = run_step("gpu", prefix, text_steps(tmp_path / "s", [5, 1]), "fp16=1", **VALIDATION)
    assert info["arithmetic"] == "fp16"
    assert "Validation" not in text and "SYNC-HAZARD" not in text, text[:2000]


@pytest.mark.parametrize("quant", range(3), ids=QUANTS)
def test_the_self_test_passes_and_sees_one_wrong_weight(run_step, quant):
    ask = lambda *a: subprocess.run([run_step.program, "self_test", str(quant), "fp16", *a], env=environment(), capture_output=True, text=True)  # noqa: E731
    assert ask().stdout == "passed\n"
    assert "computes wrong numbers" in ask("fault").stdout


def test_a_gpu_without_halves_computes_in_float32_and_says_so(run_step, files, tmp_path):
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps = text_steps(tmp_path / "s", [5, 1])
    want = logits(run_step("gpu", prefix, steps)[0])
    got, info, _ = run_step("gpu", prefix, steps, "fp16=1", "no_half=1")
    assert info["arithmetic"] == "fp32" and np.array_equal(logits(got), want)

    def choose(device, arithmetic, *options):
        done = subprocess.run([run_step.program, "choose", f"{prefix}.program", f"{prefix}.weights", device, arithmetic, *options],
                              env=environment(BLOCKFFN_CACHE_DIR=str(tmp_path / "cache")), capture_output=True, text=True)
        return done.stdout.strip()

    half = choose("gpu", "fp16")
    name = half.removesuffix(", fp16 arithmetic")
    assert name != half and choose("gpu", "fp32") == choose("gpu", "") == name
    assert choose("gpu", "fp16", "no_half=1") == f"{name}, fp32 arithmetic: this GPU does not multiply in float16"
    assert choose("cpu", "fp16") == "cpu"
    for device in ("cpu", "gpu"):
        assert choose(device, "half") == ("the GPU's arithmetic must be fp32 or fp16 (BLOCKFFN_GPU_ARITHMETIC, or the runtime "
                                          "spec `gpu_arithmetic`)")
    assert f"gpu {choose('describe', 'fp16')}" == half and f"gpu {choose('describe', '')}" == name  # what the doctor prints
    assert choose("describe", "half").startswith("none: the GPU's arithmetic must be")
    verdicts = sorted((tmp_path / "cache").glob("gpu-*"))  # of each arithmetic one
    assert [v.name.endswith("-fp16") for v in verdicts] == [False, True]
    verdicts[1].write_text("failed\n")
    assert choose("gpu", "fp16").startswith(f"{name}, fp32 arithmetic: the GPU failed its self-test before")
    verdicts[0].write_text("failed\n")
    assert choose("gpu", "fp16").startswith("cpu: the GPU failed its self-test before")


def test_the_benchmark_sets_both_arithmetics_side_by_side():
    row = {"layer": "L", "quant": "int8", "T": 8, "threads": "64/64", "sparse_us": 30.0, "all_us": 60.0}
    rows = [row, row | {"threads": "8/8", "sparse_us": 1.0}, row | {"arithmetic": "fp16", "sparse_us": 20.0, "all_us": 50.0},
            {"gated_dense": "L", "quant": "int8", "T": 8, "us": 9.0}, row | {"T": 1}]
    assert table.halves(rows, "64/64").splitlines()[2:] == ["| L | int8 | 8 | 30.0 | 20.0 | 1.50 | 60.0 | 50.0 | 1.20 |  |  |  |"]


BACKEND = """
import os, sys, torch
from runtime_delegates.loader import load_backend
backend = load_backend()
from tests.delegate.programs import chunk, execute, load
for arithmetic in ("", "fp16", "double"):
    os.environ["BLOCKFFN_GPU_ARITHMETIC"] = arithmetic
    try:
        method = load(sys.argv[1])
    except RuntimeError:
        print("refused:", backend.last_error())
        sys.exit()
    print(backend.device)
    y, _ = execute(method, torch.arange(5)[None], *chunk(5, 0), torch.tensor([0]))
    print(y.tobytes().hex())
"""


def test_the_backend_takes_an_arithmetic(lowered):
    path, _ = lowered("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    done = subprocess.run([sys.executable, "-c", BACKEND, str(path)], env=environment(PYTHONPATH=str(ROOT), BLOCKFFN_DEVICE="gpu"), cwd=ROOT,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, y, half, y_half, refused = done.stdout.splitlines()
    assert half == plain + ", fp16 arithmetic" and "must be fp32 or fp16" in refused
    a, b = (np.frombuffer(bytes.fromhex(x), np.float32) for x in (y, y_half))
    assert 1e-5 < np.linalg.norm(a - b) / np.linalg.norm(a) < 2e-2
