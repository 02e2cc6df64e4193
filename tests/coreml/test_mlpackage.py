"""What is in a package, run by the interpreter, against a float64 oracle with the weights that the package holds."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from export.coreml_compress import Compression
from export.coreml_decoder import CoreMLDecoder
from export.coreml_session import CoreMLSession
from export.mil_interpreter import MilInterpreter, load_program
from export.quality import KEPT_BRANCH, TREE_PARENTS, Golden, run_session
from runtime_delegates.session import ContextFull
from tests.coreml.conftest import CONTEXT
from tests.export import model_oracle
from training.checkpoint import open_checkpoint
from training.model import CausalLM

BOUND = 0.02  # of a row's maximum; float16 keeps 11 bits, and two layers of width 48 lose a few
QUANTS = ("fp16", "int8", "int4", "palette4")


def token_ids(count, seed=0):
    return torch.randint(320, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def stored_tensors(checkpoint, quant):
    """(config, tensors in the published layout) with the values that a package of this precision holds."""
    opened = open_checkpoint(checkpoint)
    config, tensors = opened.config, {name: tensor.half().float() for name, tensor in opened.tensors.items()}
    decoder = CoreMLDecoder(opened, CONTEXT)
    compression = Compression(decoder.matrices(), quant)
    for name, weight in decoder.matrices().items():
        stored = weight.half().float() if quant == "fp16" else compression.of(name).dense()
        layer = name.rsplit("self_attn", 1)[0]
        if name.endswith("absorb_HNL"):
            keys_HNL = stored
        elif name.endswith("expand_HLV"):
            tensors[f"model.{layer}self_attn.kv_b_proj.weight"] = torch.cat([keys_HNL, stored.mT], dim=1).flatten(0, 1)
        elif config.is_block_ffn and name.endswith("mlp.up_proj.weight"):
            tensors[f"model.{name.removesuffix('.weight')}"] = stored.unflatten(0, (config.num_experts, -1))
        elif config.is_block_ffn and name.endswith("mlp.down_proj.weight"):
            tensors[f"model.{name.removesuffix('.weight')}"] = stored.unflatten(1, (config.num_experts, -1)).transpose(0, 1)
        else:
            name = name.replace("kv_a_proj.", "kv_a_proj_with_mqa.")
            tensors[name if name.startswith("lm_head") else f"model.{name}"] = stored
    assert tensors.keys() == opened.tensors.keys()
    assert all(tensors[name].shape == opened.tensors[name].shape for name in tensors)
    return config, tensors


@pytest.fixture(scope="module")
def oracle(exported):
    """oracle(name, ids, parents=None) -> (logits, hidden)."""
    weights = {}

    def compute(name, ids, parents=None):
        if name not in weights:
            weights[name] = stored_tensors(exported(name).checkpoint, exported(name).quant)
        return model_oracle.forward(*weights[name], ids, parents, CONTEXT)

    return compute


def require_close(got, want):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want)
    assert got.shape == want.shape
    wrong = ~(np.abs(got - want) <= BOUND * np.abs(want).max(axis=-1, keepdims=True))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size}, worst {np.abs(got - want).max()}"


def open_session(package, form):
    session = CoreMLSession(package)
    if form == "dense" and session.gather_chunk:
        session.gather_chunk = 0  # every chunk goes to the function of all experts
    return session


def golden_of_oracle(oracle, name, golden):
    """(logits, hidden) of a prefix, a tree and a token after one of its branches."""
    first = len(golden.prefix)
    parents = [*range(-1, first - 1), *(first + p if p >= 0 else first - 1 for p in TREE_PARENTS)]
    tree = oracle(name, golden.prefix + golden.tree, parents)
    last = oracle(name, golden.prefix + [golden.tree[i] for i in KEPT_BRANCH] + [golden.last])
    return [np.concatenate([a, b[-1:]]) for a, b in zip(tree, last)]


FORMS = [(quant, form) for quant in QUANTS for form in ("dense", "gather")]


@pytest.mark.parametrize("name, form", [*FORMS, ("fp16 none", "dense"), ("int8 dense", "dense")])
def test_a_prefix_a_tree_and_a_kept_branch(exported, oracle, name, form):
    session, golden = open_session(exported(name).package, form), Golden.of(320, 5)
    for got, want in zip(run_session(session, golden), golden_of_oracle(oracle, name, golden), strict=True):
        require_close(got, want)
    assert (session.gathered > 0) == (form == "gather")
    assert session.overflows <= session.gathered


@pytest.mark.parametrize("name, form", FORMS)
def test_many_steps_to_the_end_of_the_context(exported, oracle, name, form):
    """Chunks of all lengths, padded ones too; the last padded chunk reaches behind the context."""
    session, ids = open_session(exported(name).package, form), token_ids(CONTEXT)
    want, _ = oracle(name, ids)
    starts = [0, 1, 3, 6, 10, 11, 19, 20, 37, 64, CONTEXT - 33, CONTEXT]
    got = torch.cat([session.step(ids[a:b])[0] for a, b in zip(starts, starts[1:])])
    require_close(got, want)
    with pytest.raises(ContextFull):
        session.step([1])


@pytest.mark.parametrize("name, form", FORMS)
def test_branches_are_dropped_over_and_over(exported, oracle, name, form):
    """Speculation: every chunk is a tree of which one branch stays, or nothing but its root."""
    session, text = open_session(exported(name).package, form), token_ids(4, 1)
    session.step(text)
    kept = None
    for turn in range(5):
        tree = token_ids(7, 10 + turn)
        masks = [sum(1 << i for i in Golden([], tree, 0).path(node)) for node in range(7)]
        logits, _ = session.step(tree, tree_mask=masks, kv_src=kept)
        kept = [0, 2, 6] if turn % 2 else [0]
        text += [tree[i] for i in kept]
        require_close(logits[kept[-1], None], oracle(name, text)[0][-1:])
    require_close(session.step([7], kv_src=kept)[0], oracle(name, text + [7])[0][-1:])


def union_sizes(one, ids):
    """Experts that a chunk uses, layer by layer, from training's model with the weights of the package."""
    _, tensors = stored_tensors(one.checkpoint, one.quant)
    model = CausalLM.from_checkpoint(dataclasses.replace(open_checkpoint(one.checkpoint), tensors=tensors))
    return [int((raw[0] > 0).any(dim=0).sum()) for raw in model(torch.tensor([ids])).raw_scores]


def test_overflow_counts_the_experts_that_did_not_fit(exported, oracle):
    one = exported("fp16")
    gather, room, seen = MilInterpreter(one.package), [2, 4], set()
    assert json.loads(gather.metadata["get_gathered_experts"]) == room
    for tokens in (1, 2):
        for seed in range(10):
            ids = token_ids(tokens, seed)
            gather.reset()
            inputs = dict(token_ids=np.array([ids], np.int32), positions=np.arange(tokens, dtype=np.int32),
                          n_past=np.zeros(1, np.int32), tree_mask=np.tril(np.ones((tokens, 64), np.int32)),
                          kv_src=np.full(64, -1, np.int32))
            outputs = gather.run(inputs)
            missing = [max(union - places, 0) for union, places in zip(union_sizes(one, ids), room)]
            if missing[0]:  # later layers see what a wrong first layer gave
                assert outputs["overflow"][0] >= missing[0]
            else:
                assert outputs["overflow"].tolist() == [max(missing)]
            assert (outputs["overflow"][0] > 0) == (max(missing) > 0)
            if max(missing) == 0:
                require_close(outputs["logits"][0], oracle("fp16", ids)[0])
            seen.add(tuple(m > 0 for m in missing))
    assert len(seen) >= 3, f"the checkpoint does not show all cases: {seen}"


def test_padding_uses_no_experts_of_its_own(exported):
    """Three tokens in a chunk of four overflow no more often than alone; the caller's chunk decides which function runs."""
    session = CoreMLSession(exported("palette4").package)
    assert session.gather_chunk == 4 and session.max_chunk == 64
    for seed in range(12):
        ids, before = token_ids(3, seed), session.overflows
        session.reset()
        session.step(ids)
        assert (session.overflows > before) == (union_sizes(exported("palette4"), ids)[0] > 3)
    gathered = session.gathered
    session.step(token_ids(5))
    assert session.gathered == gathered == 12 and 0 < session.overflows < 12


@pytest.mark.parametrize("name, kind", [
    ("fp16", None), ("int8 plain", "constexpr_blockwise_shift_scale"), ("int4", "constexpr_blockwise_shift_scale"),
    ("palette4", "constexpr_lut_to_dense"),
])
def test_everything_but_routers_and_norms_is_compressed(exported, name, kind):
    one = exported(name)
    config, quant = open_checkpoint(one.checkpoint).config, one.quant
    spec, program = load_program(one.package)
    for function in program.functions.values():
        operations = function.operations
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


def metadata_of(package):
    values = {key: json.loads(value) for key, value in MilInterpreter(package).metadata.items()
              if key.startswith(("get", "use", "enable"))}
    assert isinstance(values.pop("get_model_fingerprint"), int) and isinstance(values.pop("get_tokenizer_fingerprint"), int)
    return values


def test_interface_of_a_package(exported):
    package = exported("int8 plain").package
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
    common = {
        "get_max_seq_len": 64, "get_max_context_len": CONTEXT, "get_vocab_size": 320, "get_bos_id": 1, "get_eos_ids": [2],
        "use_kv_cache": True, "enable_dynamic_shape": True, "use_sdpa_with_kv_cache": False,
        "get_blockffn_format_version": 1, "get_chunk_lengths": lengths, "get_quant": "int8",
    }
    assert metadata_of(package) == common
    assert metadata_of(exported("int8").package) == common | {"get_gathered_experts": [4, 4], "get_gather_chunk": 64}
