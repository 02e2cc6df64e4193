"""What is in a package, run by the interpreter, against the float64 oracle and training's model."""

import json

import numpy as np
import pytest
import torch

from export.coreml_session import CoreMLSession
from export.mil_interpreter import MilInterpreter, load_program
from export.quality import KEPT_BRANCH, TREE_PARENTS, Golden, run_session
from runtime_delegates.session import ContextFull
from tests.coreml.conftest import CONTEXT
from tests.export import model_oracle
from training.checkpoint import open_checkpoint
from training.model import CausalLM

BOUND = 0.02  # of a row's maximum; float16 keeps 11 bits, and two layers of width 48 lose a few


def token_ids(count, seed=0):
    return torch.randint(320, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def oracle(checkpoint, ids, parents=None):
    opened = open_checkpoint(checkpoint)
    return model_oracle.forward(opened.config, opened.tensors, ids, parents, CONTEXT)


def require_close(got, want):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want)
    assert got.shape == want.shape
    wrong = ~(np.abs(got - want) <= BOUND * np.abs(want).max(axis=-1, keepdims=True))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size}, worst {np.abs(got - want).max()}"


def golden_of_oracle(checkpoint, golden):
    """(logits, hidden) of a prefix, a tree and a token after one of its branches."""
    first = len(golden.prefix)
    parents = [*range(-1, first - 1), *(first + p if p >= 0 else first - 1 for p in TREE_PARENTS)]
    tree = oracle(checkpoint, golden.prefix + golden.tree, parents)
    last = oracle(checkpoint, golden.prefix + [golden.tree[i] for i in KEPT_BRANCH] + [golden.last])
    return [np.concatenate([a, b[-1:]]) for a, b in zip(tree, last)]


@pytest.mark.parametrize("flavour, options", [
    ("mla", ()), ("gqa", ()), ("dense", ()), ("none", ()),
    ("gqa", ("--ffn", "gather", "--gather-experts", "4")), ("mla", ("--ffn", "gather", "--gather-experts", "2")),
])
def test_chunks_a_tree_and_a_kept_branch(exported, flavour, options):
    checkpoint, package = exported(flavour, "fp16", *options)
    session, golden = CoreMLSession(package), Golden.of(320, 5)
    for got, want in zip(run_session(session, golden), golden_of_oracle(checkpoint, golden), strict=True):
        require_close(got, want)
    if options:
        assert 0 < session.overflows <= 3


@pytest.mark.parametrize("flavour", ["mla", "gqa"])
def test_many_steps_to_the_end_of_the_context(exported, flavour):
    """Chunks of all lengths, padded ones too; the last padded chunk reaches behind the context."""
    checkpoint, package = exported(flavour)
    session, ids = CoreMLSession(package), token_ids(CONTEXT)
    want, _ = oracle(checkpoint, ids)
    starts = [0, 1, 3, 6, 11, 20, 37, 64, CONTEXT - 33, CONTEXT]
    got = torch.cat([session.step(ids[a:b])[0] for a, b in zip(starts, starts[1:])])
    require_close(got, want)
    with pytest.raises(ContextFull):
        session.step([1])


def test_branches_are_dropped_over_and_over(exported):
    """Speculation: every chunk is a tree of which one branch stays, or nothing but its root."""
    checkpoint, package = exported("gqa")
    session, text = CoreMLSession(package), token_ids(4, 1)
    session.step(text)
    kept = None
    for turn in range(6):
        tree = token_ids(7, 10 + turn)
        masks = [sum(1 << i for i in Golden([], tree, 0).path(node)) for node in range(7)]
        logits, _ = session.step(tree, tree_mask=masks, kv_src=kept)
        kept = [0, 2, 6] if turn % 2 else [0]
        text += [tree[i] for i in kept]
        require_close(logits[kept[-1], None], oracle(checkpoint, text)[0][-1:])
    require_close(session.step([7], kv_src=kept)[0], oracle(checkpoint, text + [7])[0][-1:])


def union_sizes(checkpoint, ids):
    """Experts that a chunk uses, layer by layer, from training's model."""
    model = CausalLM.from_checkpoint(open_checkpoint(checkpoint))
    return [int((raw[0] > 0).any(dim=0).sum()) for raw in model(torch.tensor([ids])).raw_scores]


def test_overflow_counts_the_experts_that_did_not_fit(exported):
    checkpoint, package = exported("gqa", "fp16", "--ffn", "gather", "--gather-experts", "4")
    gather = MilInterpreter(package)
    seen = set()
    for tokens in (1, 2, 4):
        for seed in range(8):
            ids = token_ids(tokens, seed)
            gather.reset()
            inputs = dict(token_ids=np.array([ids], np.int32), positions=np.arange(tokens, dtype=np.int32),
                          n_past=np.zeros(1, np.int32), tree_mask=np.tril(np.ones((tokens, 64), np.int32)),
                          kv_src=np.full(64, -1, np.int32))
            outputs = gather.run(inputs)
            unions = union_sizes(checkpoint, ids)
            expected = max(max(unions) - 4, 0)
            if unions[0] > 4:  # later layers see what a wrong first layer gave
                assert outputs["overflow"][0] >= unions[0] - 4
            elif expected:
                assert outputs["overflow"].tolist() == [expected]
            assert (outputs["overflow"][0] > 0) == (expected > 0)
            if expected == 0:
                require_close(outputs["logits"][0], oracle(checkpoint, ids)[0])
            seen.add(expected > 0)
    assert seen == {True, False}, "the checkpoint shows one case only"


@pytest.mark.parametrize("quant, kind", [
    ("fp16", None), ("int8", "constexpr_blockwise_shift_scale"), ("int4", "constexpr_blockwise_shift_scale"),
    ("palette4", "constexpr_lut_to_dense"),
])
def test_everything_but_routers_and_norms_is_compressed(exported, quant, kind):
    checkpoint, package = exported("mla", quant)
    config = open_checkpoint(checkpoint).config
    spec, program = load_program(package)
    operations = program.functions["main"].operations
    compressed = [op for op in operations if op.op_type.startswith("constexpr_")]
    # Embedding; per layer 4 linears of the attention, its two matrices per head, up and down.
    assert len(compressed) == (0 if kind is None else 1 + 8 * config.num_hidden_layers)
    assert {op.op_type for op in compressed} == ({kind} if kind else set())
    bits = {"int8": 8, "int4": 4, "palette4": 4}.get(quant)
    for op in compressed:
        integers = op.indices if quant == "palette4" else op.data
        assert integers.dtype.get_bitwidth() == bits
    routers = [op for op in operations if op.op_type == "linear" and op.weight.shape[0] == config.num_experts]
    assert len(routers) == config.num_hidden_layers
    assert {op.weight.op.op_type for op in routers} == {"const"}


def test_interface_of_a_package(exported):
    checkpoint, package = exported("mla", "palette4")
    spec, _ = load_program(package)
    assert spec.specificationVersion == 9  # iOS 18
    lengths = [1, 2, 4, 8, 16, 32, 64]
    shapes = MilInterpreter(package).shapes
    assert shapes == {
        "token_ids": [(1, n) for n in lengths], "positions": [(n,) for n in lengths], "n_past": [(1,)],
        "tree_mask": [(n, 64) for n in lengths], "kv_src": [(64,)],
    }
    assert [state.name for state in spec.description.state] == [f"layers_{i}_self_attn_cache" for i in range(2)]
    assert all(state.type.stateType.arrayType.shape == [192, 24] for state in spec.description.state)
    assert [output.name for output in spec.description.output] == ["logits", "hidden"]
    metadata = {key: json.loads(value) for key, value in MilInterpreter(package).metadata.items()
                if key.startswith(("get", "use", "enable"))}
    fingerprint = metadata.pop("get_model_fingerprint")
    assert isinstance(fingerprint, int) and isinstance(metadata.pop("get_tokenizer_fingerprint"), int)
    assert metadata == {
        "get_max_seq_len": 64, "get_max_context_len": CONTEXT, "get_vocab_size": 320, "get_bos_id": 1, "get_eos_ids": [2],
        "use_kv_cache": True, "enable_dynamic_shape": True, "use_sdpa_with_kv_cache": False,
        "get_blockffn_format_version": 1, "get_chunk_lengths": lengths, "get_gathered_experts": 0, "get_quant": "palette4",
    }
