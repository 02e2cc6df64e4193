"""A decoder of every op in one delegate: chunks, threads, profiling and load errors."""

import struct

import numpy as np
import pytest
import torch

from tests.delegate.programs import Runtime, Stack, causal, chunk, execute, kept, load

QUANTS = ("fp32", "int8", "int4")


def example(tokens):
    return torch.zeros(1, tokens, dtype=torch.int64), *chunk(tokens, 0), torch.tensor([0])


@pytest.fixture(scope="module", params=QUANTS)
def stack(request, lowered):
    module = Stack(request.param)
    path, delegated = lowered(f"stack-{request.param}", module, example(7))
    assert delegated == {
        "embedding": 1,
        "rms_norm": 5,
        "linear": 10,
        "add": 4,
        "silu_mul": 1,
        "logits": 1,
        "mla_attention": 1,
        "gqa_attention": 1,
        "chunk_sparse_ffn": 1,
    }
    return module, path


def token_ids(n):
    return torch.from_numpy(np.random.default_rng(3).integers(0, Stack.V, (1, n)))


def run(method, ids, lengths):
    """Logits and hidden states of all tokens, fed in chunks of the given lengths."""
    logits, hidden, at = [], [], 0
    for length in lengths:
        y, h = execute(method, ids[:, at : at + length], *chunk(length, at), torch.tensor([0]))
        logits.append(y[0])
        hidden.append(h)
        at += length
    return np.concatenate(logits), np.concatenate(hidden)


def test_follows_the_eager_module(stack, kernels):
    """Quantized layers may round a tie differently, which later layers carry on: compared in norm, not per element."""
    module, path = stack
    ids = token_ids(64)
    logits, hidden = run(load(path), ids, [64])
    with torch.no_grad():
        want_logits, want_hidden = type(module)(module.quant)(ids, *chunk(64, 0), torch.tensor([0]))
    limit = 1e-5 if module.quant == "fp32" else 0.02
    for got, want in ((logits, want_logits[0].numpy()), (hidden, want_hidden.numpy())):
        error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
        assert not (~(error <= limit)).any(), error.max()


@pytest.mark.parametrize("lengths", [[1] * 70, [64, 6], [63, 7], [2, 7, 8, 1, 52]], ids=str)
def test_step_by_step_equals_one_chunk_bit_for_bit(stack, lengths, kernels):
    _, path = stack
    ids = token_ids(70)
    for got, want in zip(run(load(path), ids, lengths), run(load(path), ids, [10] * 7), strict=True):
        assert np.array_equal(got, want)


def test_any_number_of_threads_gives_the_same_bits(stack, backend, kernels):
    _, path = stack
    ids = token_ids(70)
    results = []
    try:
        for threads in range(1, 9):
            backend.set_threads(threads)
            results.append(run(load(path), ids, [64, 1, 5]))
    finally:
        backend.set_threads(backend.default_threads)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_speculation_equals_plain_decoding_bit_for_bit(stack, kernels):
    """Prefill, verify a tree, keep one branch, go on: both caches compact alike."""
    _, path = stack
    ids = token_ids(20)
    tree = torch.tensor([[*range(30, 36)]])
    parents = [-1, 0, 0, 1, 2, 4]  # the branch 0, 2, 4, 5 is accepted
    masks = []
    for i, parent in enumerate(parents):
        masks.append((masks[parent] if parent >= 0 else 0) | 1 << i)
    positions = torch.tensor([9 + bin(m).count("1") for m in masks])
    method, start = load(path), torch.tensor([0])
    run(method, ids[:, :10], [10])
    verified, _ = execute(method, tree, positions, torch.tensor([10]), torch.tensor(masks), kept(), start)
    after, _ = execute(
        method, ids[:, 10:15], torch.arange(14, 19), torch.tensor([14]), causal(5), kept(0, 2, 4, 5), start
    )

    accepted = [0, 2, 4, 5]
    plain, _ = run(load(path), torch.cat([ids[:, :10], tree[:, accepted], ids[:, 10:15]], dim=1), [1] * 19)
    assert np.array_equal(verified[0, accepted], plain[10:14])
    assert np.array_equal(after[0], plain[14:])


def test_profiling_shows_every_op_with_its_tokens_and_union(stack, tmp_path):
    from executorch.devtools import Inspector

    _, path = stack
    program = Runtime.get().load_program(str(path), enable_etdump=True, debug_buffer_size=1 << 20)
    execute(program.load_method("forward"), token_ids(7), *chunk(7, 0), torch.tensor([0]))
    dump = tmp_path / "profile.etdump"
    program.write_etdump_result_to_file(str(dump), str(tmp_path / "debug.bin"))
    parse = lambda blobs: [dict(zip(("T", "U"), struct.unpack("<2i", b), strict=True)) for b in blobs]  # noqa: E731
    with pytest.warns(UserWarning, match="Output Buffer not found"):
        inspector = Inspector(etdump_path=str(dump), delegate_metadata_parser=parse)
    events = {e.name: e for block in inspector.event_blocks for e in block.events if e.is_delegated_op}
    assert set(events) == {
        "embedding",
        "rms_norm",
        "linear",
        "add",
        "silu_mul",
        "logits",
        "mla_attention",
        "gqa_attention",
        "chunk_sparse_ffn",
    }
    for name, event in events.items():
        assert event.perf_data.avg > 0
        metadata = event.delegate_debug_metadatas[0]
        assert metadata["T"] == 7
        assert 1 <= metadata["U"] <= Stack.E if name == "chunk_sparse_ffn" else metadata["U"] == -1


@pytest.mark.parametrize(
    "magic, offset, value, sentence",
    [
        (b"BFPG", 0, b"XXXX", "this is not a BlockFFN program"),
        (b"BFPG", 4, b"\x63\0", "another format version than this library; export the model again"),
        (b"BFFF", 4, b"\x63\0", "packed FFN has an unknown format version"),
        (b"BFFF", 8, b"\xff\xff\0\0", "router does not match"),
        (b"BFMX", 6, b"\x07", "packed matrix has an unknown quantization"),
        (b"BFMX", 12, b"\xff\xff\xff\0", "truncated"),
    ],
)
def test_damaged_files_are_refused_with_a_sentence(stack, backend, tmp_path, magic, offset, value, sentence):
    _, path = stack
    data = bytearray(path.read_bytes())
    at = data.index(magic) + offset
    data[at : at + len(value)] = value
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(data)
    backend.last_error()
    with pytest.raises(RuntimeError, match="0x:?30"):
        load(damaged)
    assert sentence in backend.last_error()
    assert backend.last_error() == ""
    run(load(path), token_ids(3), [3])  # the library goes on working
