"""The generated Metal kernels, run as C++ on the CPU dispatch by dispatch, beside a step of the same passes on lavapipe.

Semantics only: no Metal compiler has seen these files here, and no Apple GPU has run them. Metal states no accuracy for
what the kernels do not spell out as fma, so values are compared to 1e-5 of the largest of their row of 32 (fp16 arithmetic: to
1e-2, because a last bit of float32 may round an activation to the neighbouring half, and that the next ones); integers (routes,
results) exactly, because they are read as what they are: a route that differs leads to values that differ.
"""

import ctypes
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch

from tests.delegate.programs import Dense, Stack, causal, chunk, kept
from tests.gpu.conftest import ROOT, environment, write_steps

METAL = ROOT / "runtime_delegates/gpu/metal"
BUFFER = re.compile(r"(\w+)& \w+ \[\[buffer\((\d)\)\]\]")
BUILTINS = {"thread_position_in_threadgroup": "local", "threadgroup_position_in_grid": "group", "thread_position_in_grid": "all"}


def as_cpp(name, threads, tokens):
    """The kernel in a namespace of its own and a function that runs a grid of it."""
    text = (METAL / f"{name}.metal").read_text()
    text = re.sub(r"(?m)^#(include|pragma).*\n", "", text)
    text = re.sub(r"(?m)^    threadgroup (?=\w+ \w+(\[\w+\])?;)", "    static ", text)
    text = re.sub(r"\.(xz|yw)\b", r".\1()", text)
    (signature,) = re.findall(r"(?m)^kernel void (.*)$", text)
    arguments = {int(n): f"*reinterpret_cast<{kind}*>(buffers[{n}])" for kind, n in BUFFER.findall(signature)}
    order = [arguments[int(m[1])] if m[1] else BUILTINS[m[2]]
             for m in re.finditer(r"\[\[(?:buffer\((\d)\)|(\w+))\]\]", signature)]
    space = f"{name}_{threads}_{tokens}"
    return f"""
#undef BLOCKFFN_THREADS
#undef BLOCKFFN_TOKENS
#define BLOCKFFN_THREADS {threads}u
#define BLOCKFFN_TOKENS {tokens}u
namespace {space} {{
{text}
extern "C" int run_{space}(void** buffers, const uint32_t* groups) {{
  return run_grid(groups, {threads}, [&](uint3 local, uint3 group, uint3 all) {{
    (void)local, (void)group, (void)all;
    {name}({", ".join(order)});
  }});
}}
}}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """kernels({(name, threads, tokens)}) -> a library of them."""

    def build(wanted):
        directory = tmp_path_factory.mktemp("metal")
        source = directory / "kernels.cc"
        source.write_text(f'#include "{ROOT}/tests/gpu/metal_on_cpu.h"\n' + "".join(as_cpp(*w) for w in sorted(wanted)))
        library = directory / "kernels.so"
        subprocess.run([shutil.which("g++") or "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-fsingle-precision-constant", "-w", "-shared", "-fPIC", source, "-o", library],
                       check=True)
        return ctypes.CDLL(str(library))

    return build


class Trace:
    def __init__(self, prefix):
        description = json.loads(open(f"{prefix}.json").read())
        self.dispatches = description["dispatches"]
        read = lambda when: [np.fromfile(f"{prefix}.{when}.{i}", np.uint8) for i in range(description["buffers"])]  # noqa: E731
        self.before, self.after = read("before"), read("after")

    def variants(self):
        return {(d["shader"], d["threads"], d["tokens"]) for d in self.dispatches}

    def run(self, library):
        """Runs all dispatches; returns the memory they leave."""
        memory = [b.copy() for b in self.before]
        memory[-2][:] = 0  # the result buffer, which the command buffer clears first
        place = lambda at: memory[at[0]].ctypes.data + at[1] if at[0] >= 0 else None  # noqa: E731
        for d in self.dispatches:
            push = np.array(d["push"], np.uint32)
            groups = d["groups"]
            if groups is None:
                buffer, at = d["indirect"]
                groups = memory[buffer][at : at + 12].view(np.uint32)
            groups = np.array(groups, np.uint32)
            buffers = (ctypes.c_void_p * 8)(push.ctypes.data, *(place(b) for b in d["bindings"]))
            run = getattr(library, f"run_{d['shader']}_{d['threads']}_{d['tokens']}")
            assert run(buffers, groups.ctypes.data_as(ctypes.c_void_p)) == 0, f"{d['shader']}: threads part before a barrier"
        return memory


def differences(got, want, most=1e-5):
    """Floats that are further apart than `most` of the largest of 32 neighbours."""
    got, want = (x[: x.size // 128 * 128].view(np.float32).reshape(-1, 32) for x in (got, want))
    with np.errstate(invalid="ignore", over="ignore"):
        near = abs(got - want) <= most * np.fmax.reduce(abs(want), axis=1, keepdims=True)
    return int((~(near | (got.view(np.uint32) == want.view(np.uint32)))).sum())


def trace(run_step, prefix, steps, step, *options):
    run_step("gpu", prefix, steps, f"trace={step}", *options, check=False)
    return Trace(f"{steps}.out")


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
def test_metal_kernels_do_what_the_vulkan_passes_do(run_step, files, kernels, tmp_path, quant, arithmetic):
    stack = files(f"stack-{quant}", Stack(quant), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))
    ids = torch.from_numpy(np.random.default_rng(5).integers(0, Stack.V, (1, 12)))
    text = [(9, (ids[:, :9], *chunk(9, 0), torch.tensor([0]))), (1, (ids[:, 9:10], torch.tensor([5]), torch.tensor([5]), causal(1), kept(0, 1, 2, 4, 7), torch.tensor([0])))]
    dense = Dense(quant, "odd")
    prefix = files(f"dense-{quant}-odd", dense, dense.inputs(7))
    options = ["fp16=1"] if arithmetic == "fp16" else []
    traces = [trace(run_step, stack, write_steps(tmp_path / f"s{i}", text), i, *options) for i in (0, 1)]
    traces.append(trace(run_step, prefix, write_steps(tmp_path / "d", [(5, dense.inputs(5))]), 0, *options))
    library = kernels(set().union(*(t.variants() for t in traces)))
    for t in traces:
        memory = t.run(library)
        changed = [i for i, (b, a) in enumerate(zip(t.before, t.after, strict=True)) if not np.array_equal(b, a)]
        assert changed, "the step wrote nothing"
        for i in range(len(memory)):
            assert differences(memory[i], t.after[i], 1e-2 if options else 1e-5) == 0, f"buffer {i}"
    seen = {name for t in traces for name, _, _ in t.variants()}
    missing = {p.stem for p in METAL.glob(f"*_{quant}_fp16.metal" if options else f"*_{quant}.metal")} - seen
    assert not missing and "keep_rows" in seen, f"not exercised: {missing}"


def test_the_comparison_sees_a_kernel_that_is_wrong(run_step, files, kernels, tmp_path):
    dense = Dense("int8", "odd")
    t = trace(run_step, files("dense-int8-odd", dense, dense.inputs(7)), write_steps(tmp_path / "d", [(5, dense.inputs(5))]), 0)
    library = kernels(t.variants())
    for d in t.dispatches:
        if d["shader"] == "rms_norm":
            d["push"][3] += 1  # the weights' place
    memory = t.run(library)
    assert sum(differences(m, a) for m, a in zip(memory, t.after, strict=True)) > 0


def test_the_device_on_metal_in_either_arithmetic(run_step, files, kernels, tmp_path):
    """metal.cc itself, with functions that an app would lend: the self-tests, and what a program is told."""
    names = [p.stem for p in METAL.glob("*.metal") if not re.search("fp32|int4|bandwidth", p.stem)]
    chunks = {1, 4, 8}  # of the self-test
    library = kernels({(n, 64, t) for n in names for t in (chunks if "BLOCKFFN_TOKENS" in (METAL / f"{n}.metal").read_text() else {1})})
    prefix = files("stack-int8", Stack("int8"), (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])))

    def ask(*words):
        done = subprocess.run([run_step.program, *words, f"metal={library._name}"], env=environment(BLOCKFFN_CACHE_DIR=str(tmp_path / "cache")),
                              capture_output=True, text=True)
        return done.stdout.strip() + done.stderr

    choose = lambda *words: ask("choose", f"{prefix}.program", f"{prefix}.weights", *words)  # noqa: E731
    assert choose("gpu", "fp16") == "gpu lender, fp16 arithmetic"
    assert choose("gpu", "") == "gpu lender"
    assert choose("gpu", "fp16", "no_half=1") == "gpu lender, fp32 arithmetic: this GPU does not multiply in float16"
    assert sorted(p.name.endswith("-fp16") for p in (tmp_path / "cache").glob("gpu-metal-lender-*")) == [False, True]
    assert "computes wrong numbers" in ask("self_test", "1", "fp16", "fault")


def test_every_pass_has_a_kernel():
    shaders = {p.stem for p in (ROOT / "runtime_delegates/gpu/shaders").glob("*.comp")}
    kinds = {re.sub("_(fp32|int8|int4)(_fp16)?$", "", p.stem) for p in METAL.glob("*.metal")}
    assert kinds == shaders
