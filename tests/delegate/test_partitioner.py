"""What the partitioner takes, how weights are stored, and what the export refuses."""

import math

import numpy as np
import pytest
import torch
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from torch import nn

from export.backend import BlockFFNPartitioner
from export.program import packing_into
from tests.delegate.programs import execute, frozen, load, lower, ops, to_edge

X = torch.linspace(-2, 2, 3 * 8).reshape(3, 8)


class Mixed(nn.Module):
    """An op of another backend between ours."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (frozen(torch.randn(8, 8, generator=generator)) for _ in range(2))

    def forward(self, x):
        return ops.linear(torch.relu(ops.linear(x, self.a, None, 1.0, "fp32")), self.b, None, 1.0, "fp32")


def test_other_ops_stay_outside():
    edge = to_edge_transform_and_lower(
        torch.export.export(Mixed(), (X,)),
        partitioner=[BlockFFNPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    outer = edge.exported_program().graph_module
    called = [str(n.target) for n in outer.graph.nodes if n.op == "call_function"]
    assert sum("executorch_call_delegate" in c for c in called) == 2
    assert sum("relu" in c for c in called) == 1
    assert not any("blockffn" in c for c in called)


class Tied(nn.Module):
    """One table, used by the embedding and the head; one weight, used twice in the same way."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = frozen(torch.randn(40, 8, generator=generator))
        self.weight = frozen(torch.randn(8, 8, generator=generator))

    def forward(self, ids, start):
        h = ops.embedding(ids, self.table, 1.0, "int8")
        for _ in range(2):
            h = ops.linear(h, self.weight, None, 1.0, "int8")
        return ops.logits(h, self.table, start, 1.0, "int8")


def test_shared_weights_are_stored_once():
    _, delegate = to_edge(Tied(), (torch.zeros(1, 3, dtype=torch.int64), torch.tensor([0])))
    meta = delegate.meta["_delegate_info_meta"]
    tile = 8 * 8 + 64
    assert meta["segment_bytes"] == (64 + 5 * tile) + (64 + tile)
    assert meta["ops"] == {"embedding": 1, "linear": 2, "logits": 1}


class NoWeights(nn.Module):
    def forward(self, a, b):
        return ops.add(a, b)


def test_a_program_without_weights(backend, tmp_path):
    path = tmp_path / "add.pte"
    assert lower(NoWeights(), (X, X), path) == {"add": 1}
    (y,) = execute(load(path), X, X)
    assert np.array_equal(y, 2 * X.numpy())


class Linear(nn.Module):
    def __init__(self, weight, quant):
        super().__init__()
        self.weight, self.quant = frozen(weight), quant

    def forward(self, x):
        return ops.linear(x, self.weight, None, 1.0, self.quant)


class Norm(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = frozen(weight)

    def forward(self, x):
        return ops.rms_norm(x, self.weight, 1e-5)


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = frozen(torch.ones(8))

    def forward(self, x):
        return ops.add(x.bfloat16(), x.bfloat16())


class NotConstant(nn.Module):
    def forward(self, x, weight):
        return ops.linear(x, weight, None, 1.0, "fp32")


@pytest.mark.parametrize(
    "module, example, sentence",
    [
        (Linear(torch.full((8, 8), math.nan), "int8"), (X,), "weight: a weight is NaN or infinite; the checkpoint"),
        (Linear(torch.full((8, 8), math.inf), "fp32"), (X,), "weight: a weight is NaN or infinite; the checkpoint"),
        (Norm(torch.full((8,), math.nan)), (X,), "weight: a weight is NaN or infinite; the checkpoint"),
        (Half(), (X,), "BlockFFNBackend takes float32 and int64"),
        (NotConstant(), (X, torch.ones(4, 8)), "must be a constant weight"),
    ],
    ids=["nan", "infinity", "nan in a norm", "bfloat16", "weight as input"],
)
def test_refused_exports_leave_nothing_behind(tmp_path, module, example, sentence):
    with packing_into(str(tmp_path)), pytest.raises((RuntimeError, ValueError), match=sentence):
        to_edge(module, example)
    assert list(tmp_path.iterdir()) == []
