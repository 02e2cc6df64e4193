"""The Vulkan step on lavapipe: numbers, hazards, limits, and what happens when the GPU is missing, small or lost.

Bounds  the float64 oracle's of exact float32 activations (tests/delegate/oracle.py), because the GPU dequantizes weights and
        multiplies them in float32, twice over plus 16 * 2^-24 of the value: Vulkan allows a division 2.5 and an inverse
        square root 2 units in the last place where the oracle counts half of one, and a scale is multiplied once more.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.delegate import oracle
from tests.delegate.programs import Dense, Ffn, Gqa, Mla, Stack, causal, chunk, kept
from tests.gpu.conftest import ROOT, environment, lavapipe, write_steps

QUANTS = ("fp32", "int8", "int4")
VALIDATION = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation",
              "VK_LAYER_ENABLES": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT"}


def check(got, want, bound, part=False):
    """Every element; unless `part` of something that is checked whole, also that the bound would notice an error."""
    want = np.asarray(want, dtype=np.float64)
    got, bound = np.asarray(got).reshape(want.shape), 2 * np.asarray(bound) + 16 * oracle.U * abs(want) + oracle.SMALLEST
    if part:
        assert oracle.mismatches(got, want, bound) == 0
    else:
        oracle.check(got, want, bound)


@pytest.mark.parametrize("size", ["odd", "even"])
@pytest.mark.parametrize("quant", QUANTS)
def test_dense_operators(run_step, files, tmp_path, quant, size):
    module = Dense(quant, size)
    tokens = 9
    ids, x, gate, start = module.inputs(tokens)
    start = torch.tensor([2])
    steps = write_steps(tmp_path / "s", [(tokens, (ids, x, gate, start))])
    got, _, _ = run_step("gpu", files(f"dense-{quant}-{size}", module, module.inputs(7)), steps)
    r = oracle.rows
    xs, gates, table, weight, norm = r(x), r(gate), r(module.table), r(module.weight), module.norm.double().tolist()
    check(got[0], *oracle.embedding(ids[0].tolist(), table, 1.5))
    check(got[1], *oracle.rms_norm(xs, oracle.zeros_like(xs), norm, 1e-5))
    check(got[2], *oracle.rms_norm(xs, oracle.zeros_like(xs), norm, 1e-6))
    check(got[3], *oracle.linear(xs, weight, "fp32", 0.75))
    check(got[4], *oracle.linear(xs, weight, "fp32", 1.0, module.bias.double().tolist()))
    check(got[5], *oracle.silu_mul(gates, xs))
    check(got[6], *oracle.add(gates, xs))
    logits, bound = oracle.linear(xs[2:], table, "fp32", 0.25)
    out = got[7].reshape(tokens, -1)
    assert not out[:2].any()
    check(out[2:], logits, bound)


@pytest.mark.parametrize("size", ["odd", "even"])
@pytest.mark.parametrize("quant", QUANTS)
def test_sparse_ffn(run_step, files, tmp_path, quant, size):
    """Prefixes of one chunk, a token that uses every expert and one that uses none."""
    module = Ffn(quant, size)
    x = torch.cat([module.inputs(17)[0], torch.ones(1, module.router.shape[1]), -torch.ones(1, module.router.shape[1])])
    lengths = (19, 1, 7)
    steps = write_steps(tmp_path / "s", [(n, (x[:n],)) for n in lengths])
    got, info, _ = run_step("gpu", files(f"ffn-{quant}-{size}", module, module.inputs(7)), steps)
    r = oracle.rows
    up, down = [r(w) for w in module.up], [r(w) for w in module.down]
    union = 0
    for i, norm in enumerate(("rms", "sum", "none")):
        y, bound, _ = oracle.chunk_sparse_ffn(r(x), r(module.router), module.router_norm.double().tolist(), up, down, norm, 1e-5, 0.7, 0.5, "fp32")
        for step, n in enumerate(lengths):
            check(got[3 * step + i], y[:n], bound[:n], part=n < 19)
        assert not got[i].reshape(19, -1)[18].any()
        union += len(module.up)
    assert info["experts_total"] == 3 * union and info["experts_read"] < info["experts_total"]


def attention(rows, run, make_oracle):
    """Prefill, a tree, a step that keeps one of its branches, one by one against the oracle."""
    tree = torch.tensor([4, 4, 5]), torch.tensor([4]), torch.tensor([1, 2, 6]), kept()
    after = torch.tensor([6, 7]), torch.tensor([6]), causal(2), kept(1, 2)
    cut = lambda i, j: tuple(x[i:j] for x in rows)  # noqa: E731
    got = run([(4, (*cut(0, 4), *chunk(4, 0))), (3, (*cut(4, 7), *tree)), (2, (*cut(7, 9), *after))])
    sees = [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 5], [0, 1, 2, 3, 5, 6], [0, 1, 2, 3, 5, 6, 7]]
    positions = [0, 1, 2, 3, 4, 4, 5, 6, 7]
    want = [make_oracle.token(t, *(x[t].double().tolist() for x in rows), positions[t], sees[t]) for t in range(9)]
    check(np.concatenate(got), [y for y, _ in want], [b for _, b in want])


@pytest.mark.parametrize("quant", QUANTS)
def test_latent_attention(run_step, files, tmp_path, quant):
    m = Mla(quant)
    r = oracle.rows
    reference = oracle.MlaOracle(m.HEADS, m.NOPE, m.inv_freq.double().tolist(), m.kv_norm.double().tolist(), 1e-6,
                                 [r(w) for w in m.absorb], [r(w) for w in m.expand], "fp32")
    prefix = files(f"mla-{quant}", m, (*m.rows(7), *chunk(7, 0)))
    attention(m.rows(9), lambda s: run_step("gpu", prefix, write_steps(tmp_path / "s", s))[0], reference)


def test_grouped_query_attention(run_step, files, tmp_path):
    m = Gqa(6, 2)
    prefix = files("gqa", m, (*m.rows(7), *chunk(7, 0)))
    attention(m.rows(9), lambda s: run_step("gpu", prefix, write_steps(tmp_path / "s", s))[0],
              oracle.GqaOracle(6, 2, m.inv_freq.double().tolist()))


class WideMla(Mla):
    LATENT = 300  # several groups of values for each thread of a workgroup


PARTS = {"parts": lambda: Gqa(2, 1, 10, 256), "wide": lambda: Gqa(2, 1, 240, 256), "wider": lambda: WideMla("fp32", context=256),
         "long": lambda: Gqa(2, 1, 10, 8300)}


@pytest.mark.parametrize("case", PARTS)
def test_attention_over_several_parts(run_step, files, tmp_path, case):
    """More rows than a part has, heads as wide as a workgroup and wider, parts of several blocks: near the CPU, in any chunks."""
    m = PARTS[case]()
    prefix = files(f"attention-{case}", m, (*m.rows(7), *chunk(7, 0)))
    rows = m.rows(203)

    def run(device, lengths):
        at, steps = 0, []
        for n in lengths:
            steps.append((n, (*(x[at : at + n] for x in rows), *chunk(n, at))))
            at += n
        return np.concatenate(run_step(device, prefix, write_steps(tmp_path / "s", steps))[0])

    whole = run("gpu", [64, 64, 64, 11])
    assert np.array_equal(run("gpu", [5, 64, 60, 1, 63, 9, 1]), whole), "a token's result depends on its chunk"
    want = run("cpu", [64, 64, 64, 11])
    error, size = (np.linalg.norm(x.reshape(203, -1), axis=1) for x in (whole - want, want))
    assert not (~(error <= 1e-5 * size)).any(), (error / size).max()


class TreeGqa(Gqa):
    """With rows of a tree that earlier calls have begun."""

    def __init__(self):
        super().__init__(6, 2)

    def forward(self, q, k, v, positions, n_past, tree_mask, kv_src, tree_rows):
        y, keys, values = torch.ops.blockffn.gqa_attention(
            q, k, v, self.inv_freq, self.key_cache, self.value_cache, positions, n_past, tree_mask, kv_src, self.heads, self.kv_heads, tree_rows)
        self.key_cache.copy_(keys)
        self.value_cache.copy_(values)
        return y


def test_a_tree_grows_over_calls(run_step, files, tmp_path):
    """Nodes of an earlier call stay visible through tree_rows; as one chunk with the whole tree, to the bit."""
    m = TreeGqa()
    prefix = files("gqa-tree", m, (*m.rows(7), *chunk(7, 0), torch.tensor([0])))
    rows, start = m.rows(9), torch.tensor([0])
    cut = lambda i, j: tuple(x[i:j] for x in rows)  # noqa: E731
    first = (4, (*cut(0, 4), *chunk(4, 0), start))
    masks, positions = torch.tensor([1, 2, 5, 10, 21]), torch.tensor([4, 4, 5, 5, 6])
    whole = [first, (5, (*cut(4, 9), positions, torch.tensor([4]), masks, kept(), start))]
    grown = [first, (2, (*cut(4, 6), positions[:2], torch.tensor([4]), masks[:2], kept(), start)),
             (3, (*cut(6, 9), positions[2:], torch.tensor([6]), masks[2:], kept(), torch.tensor([2])))]
    one, two, cpu = (np.concatenate(run_step(device, prefix, write_steps(tmp_path / "s", steps))[0])
                     for device, steps in (("gpu", whole), ("gpu", grown), ("cpu", grown)))
    assert np.array_equal(one, two)
    assert np.linalg.norm(two - cpu) <= 1e-5 * np.linalg.norm(cpu)


@pytest.fixture(params=QUANTS)
def stack(request, files):
    return request.param, files(f"stack-{request.param}", Stack(request.param),
                                (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))


def text_steps(path, lengths):
    ids, at, steps = torch.from_numpy(np.random.default_rng(3).integers(0, Stack.V, (1, 40))), 0, []
    for n in lengths:
        steps.append((n, (ids[:, at : at + n], *chunk(n, at), torch.tensor([0]))))
        at += n
    return write_steps(path, steps)


def logits(outputs):
    return np.concatenate(outputs[1::2]).reshape(-1, Stack.V)  # behind the hidden states


def test_a_decoder_follows_the_cpu_and_its_chunks_do_not_matter(run_step, stack, tmp_path):
    quant, prefix = stack
    one = run_step("gpu", prefix, text_steps(tmp_path / "one", [1] * 12))[0]
    for lengths in ([12], [2, 7, 3]):
        many = run_step("gpu", prefix, text_steps(tmp_path / "many", lengths))[0]
        assert np.array_equal(logits(one), logits(many)), "a token's result depends on its chunk"
    cpu = logits(run_step("cpu", prefix, text_steps(tmp_path / "one", [1] * 12))[0])
    error = np.linalg.norm(logits(one) - cpu, axis=1) / np.linalg.norm(cpu, axis=1)
    # int8 and int4 differ by the CPU's rounding of activations to 8 bits.
    assert not (~(error <= (1e-5 if quant == "fp32" else 0.1))).any(), error.max()


@pytest.mark.parametrize("option", ["staged=1", "serialize=1", "window=8192", "threads=128"])
def test_every_way_to_run_a_step_gives_the_same(run_step, files, tmp_path, option):
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps = text_steps(tmp_path / "s", [9, 1])
    want, got = (logits(run_step("gpu", prefix, steps, *o)[0]) for o in ([], [option]))
    if option.startswith(("threads", "window")):  # another order of sums
        assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)
    else:
        assert np.array_equal(got, want)


def test_synchronization_validation_is_clean_and_would_see_a_missing_barrier(run_step, files, tmp_path):
    prefix = files("stack-int4", Stack("int4"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps = text_steps(tmp_path / "s", [5, 1])
    for options in ([], ["staged=1"]):
        _, info, text = run_step("gpu", prefix, steps, *options, **VALIDATION)
        assert "Validation" not in text and "SYNC-HAZARD" not in text, text[:2000]
    seen = 0
    for barrier in range(0, info["barriers"], 5):
        _, _, text = run_step("gpu", prefix, steps, f"skip_barrier={barrier}", **VALIDATION)
        seen += "SYNC-HAZARD" in text
    assert seen == len(range(0, info["barriers"], 5)), "the validation layer missed a planted fault"


def test_an_unusable_gpu_is_a_sentence(run_step, files, tmp_path):
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps = text_steps(tmp_path / "s", [5, 1])
    for options, more, sentence in (
        ([], {"VK_ICD_FILENAMES": "/nonexistent"}, "no Vulkan driver"),
        (["shared_bytes=8192"], {}, "limits are below"),
        (["memory_bytes=100000"], {}, "not enough memory"),
        (["window=64"], {}, "exceeds what the GPU can bind"),
    ):
        done = run_step("gpu", prefix, steps, *options, check=False, **more)
        assert done.returncode == 1 and sentence in done.stderr, done.stderr


def test_a_lost_gpu_hands_a_new_text_to_the_cpu(run_step, files, tmp_path):
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps = text_steps(tmp_path / "s", [5, 1])
    setup = next(n for n in range(99) if not run_step("gpu", prefix, steps, f"lose_after={n}", check=False).returncode)
    cpu = run_step("cpu", prefix, steps)[0]
    lost_at_once = run_step("gpu", prefix, steps, f"lose_after={setup}")[0]
    assert all(np.array_equal(a, b) for a, b in zip(lost_at_once, cpu, strict=True))
    later = run_step("gpu", prefix, steps, f"lose_after={setup + 1}")[0]
    assert "begin the text again" in later[-1]


def test_compiled_passes_are_kept_and_a_damaged_file_is_ignored(run_step, files, tmp_path):
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    steps, cache = text_steps(tmp_path / "s", [5, 1]), tmp_path / "cache"
    run = lambda: logits(run_step("gpu", prefix, steps, BLOCKFFN_CACHE_DIR=str(cache))[0])  # noqa: E731
    want = run()
    (kept,) = cache.iterdir()
    whole, written = kept.read_bytes(), kept.stat().st_mtime_ns
    assert np.array_equal(run(), want) and kept.stat().st_mtime_ns == written, "a whole file was written again"
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for damaged in (b"", whole[:-1], bytes(flipped), b"x" * len(whole)):
        kept.write_bytes(damaged)
        assert np.array_equal(run(), want) and kept.read_bytes() == whole


@pytest.mark.parametrize("quant", range(3), ids=QUANTS)
def test_the_self_test_passes_and_sees_one_wrong_weight(run_step, quant):
    ask = lambda *a: subprocess.run([run_step.program, "self_test", str(quant), *a], env=environment(), capture_output=True, text=True)  # noqa: E731
    assert ask().stdout == "passed\n"
    assert "computes wrong numbers" in ask("fault").stdout


BACKEND = """
import os, sys, torch
from runtime_delegates.loader import load_backend
backend = load_backend()
from tests.delegate.programs import chunk, execute, load
try:
    method = load(sys.argv[1])
except RuntimeError:
    print("refused:", backend.last_error())
    sys.exit()
print(backend.device)
if "TURNS_ON" in os.environ:
    with backend.experts(os.environ["TURNS_ON"]):
        try:
            execute(method, torch.arange(5)[None], *chunk(5, 0), torch.tensor([0]))
        except RuntimeError:
            print("refused:", backend.last_error())
    sys.exit()
for n, at in ((5, 0), (1, 5)):
    y, _ = execute(method, torch.arange(n)[None], *chunk(n, at), torch.tensor([0]))
    print(" ".join(f"{v:.4f}" for v in y.ravel()[:8]))
"""


def test_the_backend_takes_a_device(lowered, tmp_path):
    icd = lavapipe()
    path, _ = lowered("stack-fp32", Stack("fp32"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))

    def run(device, **more):
        env = environment(BLOCKFFN_DEVICE=device, PYTHONPATH=str(ROOT), BLOCKFFN_CACHE_DIR=str(tmp_path)) | more
        done = subprocess.run([sys.executable, "-c", BACKEND, str(path)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    cpu, gpu = run("cpu"), run("gpu")
    assert cpu[0] == "cpu" and gpu[0].startswith("gpu llvmpipe") and gpu[1:] == cpu[1:]
    (verdict,) = tmp_path.glob("gpu-*")
    assert verdict.read_text().startswith("passed")
    assert run("auto")[0] == "cpu: Vulkan has only a software driver here, which the CPU kernels outrun"
    missing = run("gpu", VK_ICD_FILENAMES="/nonexistent")
    assert missing[0] == "cpu: there is no Vulkan driver on this system" and missing[1:] == cpu[1:]
    dense = run("gpu", BLOCKFFN_EXPERTS="all")
    assert dense[0] == "cpu: all experts are computed on the CPU alone" and dense[1:] == cpu[1:]
    assert run("gpu", TURNS_ON="all")[1:] == ["refused: all experts are computed on the CPU alone: ask for the active ones, or "
                                              "load the program with device=cpu"]
    verdict.write_text("failed\n")
    failed = run("gpu")
    assert failed[0].startswith("cpu: the GPU failed its self-test before") and failed[1:] == cpu[1:]
    assert "must be cpu, gpu or auto" in run("tpu")[0]
    assert icd.is_file()


def test_the_doctor_says_whether_there_is_a_gpu():
    done = subprocess.run([sys.executable, "-m", "runtime_delegates.doctor"], env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["gpu"].startswith("none: Vulkan has only a software driver here")


def test_the_shaders_are_what_their_sources_give():
    """Also validates every module with spirv-val."""
    lavapipe()
    if not shutil.which("glslc") or not shutil.which("spirv-val"):
        pytest.skip("NOT TESTED: the shaders' sources. Needed: apt install glslc spirv-tools")
    done = subprocess.run([sys.executable, ROOT / "runtime_delegates/gpu/build_shaders.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
