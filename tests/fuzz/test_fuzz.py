"""Damaged programs and weights under AddressSanitizer and UndefinedBehaviorSanitizer.

Valid cases of every op and precision are exported, then fuzz_program.cc damages, parses and runs them.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.delegate.programs import Dense, Ffn, Gqa, Mla, Stack, causal, chunk, kept, lower_to_blobs

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build-asan"
SANITIZERS = "address,undefined,float-cast-overflow"
MUTATIONS = 20_000


@pytest.fixture(scope="module")
def driver():
    """The sanitizer build of the fuzz driver, without ExecuTorch."""
    tools = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=f"{tools}{os.pathsep}{os.environ['PATH']}")
    ninja = shutil.which("ninja", path=f"{tools}{os.pathsep}{os.environ['PATH']}")
    configure = [
        cmake,
        "-S",
        ROOT / "runtime_delegates",
        "-B",
        BUILD,
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        "-DBLOCKFFN_EXECUTORCH=OFF",
        "-DBLOCKFFN_FUZZ=ON",
        f"-DBLOCKFFN_SANITIZE={SANITIZERS}",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1",
    ]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([cmake, "--build", BUILD], check=True, stdout=subprocess.DEVNULL)
    return BUILD / "blockffn_fuzz"


def packed_steps(*steps):
    out = struct.pack("<I", len(steps))
    for inputs in steps:
        tokens = next(x.shape[-1] if x.shape[0] == 1 and x.dim() == 2 else x.shape[0] for x in inputs)
        out += struct.pack("<2I", tokens, len(inputs))
        for x in inputs:
            data = x.contiguous().numpy().tobytes()
            out += struct.pack("<I", len(data)) + data
    return out


def attention_steps(rows):
    """Prefill, a tree, and a step that keeps one of its branches."""
    at = lambda i, j: [x[:, i:j] if x.dtype == torch.int64 else x[i:j] for x in rows]  # noqa: E731
    tree = torch.tensor([4, 4, 5]), torch.tensor([4]), torch.tensor([1, 2, 6]), kept()
    return [
        (*at(0, 4), *chunk(4, 0)),
        (*at(4, 7), *tree),
        (*at(7, 9), torch.tensor([6, 7]), torch.tensor([6]), causal(2), kept(1, 2)),
    ]


class GrowingGqa(Gqa):
    """Attention of a draft head, whose trees grow from call to call: tree_rows of the rows are nodes of earlier ones."""

    def forward(self, q, k, v, positions, n_past, tree_mask, kv_src, tree_rows):
        caches = self.key_cache, self.value_cache
        chunk = positions, n_past, tree_mask, kv_src
        y, keys, values = torch.ops.blockffn.gqa_attention(q, k, v, self.inv_freq, *caches, *chunk, self.heads,
                                                           self.kv_heads, tree_rows)
        self.key_cache.copy_(keys)
        self.value_cache.copy_(values)
        return y


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    out = tmp_path_factory.mktemp("seeds")

    def write(name, module, example, steps):
        program, weights = lower_to_blobs(module, example)
        (out / f"{name}.program").write_bytes(program)
        (out / f"{name}.weights").write_bytes(weights)
        (out / f"{name}.steps").write_bytes(packed_steps(*steps))

    for quant in ("fp32", "int8", "int4"):
        dense, ffn, stack = Dense(quant, "odd"), Ffn(quant, "odd"), Stack(quant)
        # One of the caches as int8: what writes and reads it does not depend on the weights.
        mla = Mla(quant, kv_quant="int8" if quant == "int4" else "fp32")
        write(f"dense-{quant}", dense, dense.inputs(7), [dense.inputs(7), dense.inputs(1)])
        write(f"ffn-{quant}", ffn, ffn.inputs(7), [ffn.inputs(7), ffn.inputs(1)])
        write(f"mla-{quant}", mla, (*mla.rows(7), *chunk(7, 0)), attention_steps(mla.rows(9)))
        steps = [(*s, torch.tensor([0])) for s in attention_steps([torch.arange(9)[None]])]
        write(f"stack-{quant}", stack, (torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])), steps)
    for kv_quant in ("fp32", "int8"):
        gqa = Gqa(6, 2, kv_quant=kv_quant)
        write(f"gqa-{kv_quant}", gqa, (*gqa.rows(7), *chunk(7, 0)), attention_steps(gqa.rows(9)))
    head = GrowingGqa(6, 2)
    rows = head.rows(9)
    first = [x[:4] for x in rows], [x[4:7] for x in rows], [x[7:9] for x in rows]
    write("gqa-tree", head, (*head.rows(7), *chunk(7, 0), torch.tensor([0])), [
        (*first[0], *chunk(4, 0), torch.tensor([0])),
        (*first[1], torch.tensor([4, 4, 4]), torch.tensor([4]), torch.tensor([1, 2, 4]), kept(), torch.tensor([0])),
        (*first[2], torch.tensor([5, 5]), torch.tensor([7]), torch.tensor([1 | 8, 2 | 16]), kept(), torch.tensor([3])),
    ])
    return out


def run(driver, seeds, mutations, random_seed):
    # No output of ours may hide a report; leaks count, and an impossible size must be refused, not returned as null.
    environment = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=1:max_allocation_size_mb=256",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    done = subprocess.run(
        [driver, seeds, str(mutations), str(random_seed)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_damaged_programs_and_weights_do_no_harm(driver, seeds):
    result = run(driver, seeds, MUTATIONS, random_seed=1)
    assert result["cases"] == 2 * 15 and result["mutations"] == MUTATIONS >= 10_000
    # The damage must reach every stage: some is refused by the parser, some by a run, some is not noticed.
    assert MUTATIONS * 0.1 < result["parsed"] < MUTATIONS * 0.9
    assert result["steps_ok"] > MUTATIONS * 0.1 and result["steps_refused"] > MUTATIONS * 0.01


def test_the_sanitizers_are_on(driver):
    """Otherwise the test above would prove nothing."""
    symbols = subprocess.run(["nm", "-D", driver], capture_output=True, text=True, check=True).stdout
    assert "__asan_" in symbols and "__ubsan_" in symbols
