"""A whole decoder on 64-bit ARM: the core library, cross-compiled with CMake and run under qemu."""

import os
import subprocess

import numpy as np
import pytest
import torch

from tests.delegate.programs import Stack, chunk, lower_to_blobs
from tests.fuzz.test_fuzz import packed_steps
from tests.kernels import arm

BEST = {"cortex-a72": "neon", "cortex-a76": "dotprod", "max,sve=off": "i8mm", "max,sme=off": "i8mm"}
TOKENS = 70


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """The cross-compiled core library under tests/kernels/run_program.cc."""
    arm.require_tools()
    core = arm.cross_build(tmp_path_factory) / "libblockffn_core.a"
    source = arm.ROOT / "tests" / "kernels" / "run_program.cc"
    return arm.build(tmp_path_factory.mktemp("core") / "run_program", arm.COMPILER, [source, core])


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def decoder(request, tmp_path_factory):
    """(directory of program and weights, token ids, the eager module's logits and hidden states)."""
    folder = tmp_path_factory.mktemp("decoder")
    example = torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])
    program, weights = lower_to_blobs(Stack(request.param), example)
    (folder / "program").write_bytes(program)
    (folder / "weights").write_bytes(weights)
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, Stack.V, (1, TOKENS)))
    with torch.no_grad():
        logits, hidden = Stack(request.param)(ids[:, :64], *chunk(64, 0), torch.tensor([0]))
    return request.param, folder, ids, np.concatenate([logits[0].numpy(), hidden.numpy()], axis=1)


def run(runner, cpu, decoder, lengths, kernels=""):
    """Name of the kernels, and per token its logits and hidden state, fed in chunks of the given lengths."""
    _, folder, ids, _ = decoder
    steps, at = [], 0
    for length in lengths:
        steps.append((ids[:, at : at + length], *chunk(length, at), torch.tensor([0])))
        at += length
    (folder / "steps").write_bytes(packed_steps(*steps))
    command = [*arm.emulator(cpu), runner, *(folder / name for name in ("program", "weights", "steps", "output"))]
    environment = os.environ | {"BLOCKFFN_KERNELS": kernels}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words, rows = np.fromfile(folder / "output", dtype=np.uint32), []
    for length in lengths:
        outputs = {}  # by width: the delegate may order them in its own way
        for _ in range(2):
            count, words = int(words[0]), words[1:]
            outputs[count // length] = words[:count].view(np.float32).reshape(length, -1)
            words = words[count:]
        rows.append(np.concatenate([outputs[Stack.V], outputs[Stack.D]], axis=1))
    assert len(words) == 0
    return done.stdout.strip(), np.concatenate(rows)


@pytest.mark.parametrize("cpu", BEST)
def test_follows_the_eager_module(runner, decoder, cpu):
    """Quantized layers may round a tie differently, which later layers carry on: compared in norm, per token."""
    kernels, got = run(runner, cpu, decoder, [64])
    want = decoder[-1]
    error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    limit = 1e-5 if decoder[0] == "fp32" else 0.02
    assert kernels == BEST[cpu]
    assert not (~(error <= limit)).any(), error.max()


def test_kernels_and_chunks_give_the_same_bits(runner, decoder):
    _, want = run(runner, "max,sve=off", decoder, [64, 6])
    for kernels, lengths in (("i8mm", [7, 63]), ("dotprod", [1] * TOKENS), ("dotprod", [64, 6]), ("neon", [64, 6])):
        name, got = run(runner, "max,sve=off", decoder, lengths, kernels)
        assert name == kernels
        assert np.array_equal(got, want)
