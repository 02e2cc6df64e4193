"""The dense twin that decoding is compared with: a plain decoder of equal size as ExecuTorch runs one on XNNPACK.

Same layers, hidden size, heads and vocabulary; multi-head attention through ExecuTorch's own kernels for language models
(llama.update_cache writes the cache in place, llama.custom_sdpa reads only its used rows), which is what its
LLM exporter uses; a gated FFN as wide as makes the number of parameters equal. Weights are random: only time is asked of it.

Axes    T tokens of a chunk, D hidden, H heads, C rows of the cache.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def twin_width(config) -> int:
    """FFN width (a multiple of 32) that gives the twin as many parameters as a BlockFFN model."""
    from training.checkpoint import expected_shapes

    def size(shape):
        return torch.Size(shape).numel()

    layer = sum(size(shape) for name, shape in expected_shapes(config).items() if name.startswith("model.layers.0."))
    D = config.hidden_size
    return max(32, round((layer - 4 * D * D - 2 * D) / (3 * D) / 32) * 32)


class Layer(nn.Module):
    def __init__(self, D: int, heads: int, width: int, context: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.RMSNorm(D), nn.RMSNorm(D)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(D, width, bias=False), nn.Linear(D, width, bias=False), nn.Linear(width, D, bias=False)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, context, heads, D // heads))

    def forward(self, x: Tensor, start: int, cos: Tensor, sin: Tensor) -> Tensor:
        tokens, normed = x.shape[1], self.norm1(x)

        def split(y):
            return y.view(1, tokens, self.heads, -1)

        def rotated(y):
            low, high = y.chunk(2, dim=-1)
            return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)

        q, k, v = rotated(split(self.q(normed))), rotated(split(self.k(normed))), split(self.v(normed))
        torch.ops.llama.update_cache(k, self.keys, start)
        torch.ops.llama.update_cache(v, self.values, start)
        y = torch.ops.llama.custom_sdpa(q, self.keys, self.values, start, None, 0.0, True)
        x = x + self.o(y.reshape(1, tokens, -1))
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def add_rotary(module: nn.Module, width: int, context: int) -> None:
    """Buffers cos and sin [context, 1, width / 2]."""
    angle_CR = torch.outer(torch.arange(context).float(), 10000.0 ** -(torch.arange(0, width, 2).float() / width))
    module.register_buffer("cos", angle_CR.cos()[:, None], persistent=False)
    module.register_buffer("sin", angle_CR.sin()[:, None], persistent=False)


class Twin(nn.Module):
    """forward(token_ids [1, T], start [1]) -> logits [1, T, V]."""

    def __init__(self, config, context: int) -> None:
        super().__init__()
        D, heads = config.hidden_size, config.num_attention_heads
        self.context = context
        self.embed = nn.Embedding(config.vocab_size, D)
        self.layers = nn.ModuleList(Layer(D, heads, twin_width(config), context) for _ in range(config.num_hidden_layers))
        self.norm, self.head = nn.RMSNorm(D), nn.Linear(D, config.vocab_size, bias=False)
        add_rotary(self, D // heads, context)

    def forward(self, token_ids: Tensor, start: Tensor) -> Tensor:
        first, tokens = start[0].item(), token_ids.shape[1]
        torch._check(first >= 0)
        torch._check(first + tokens <= self.context)
        cos, sin = self.cos.narrow(0, first, tokens), self.sin.narrow(0, first, tokens)
        x = self.embed(token_ids)
        for layer in self.layers:
            x = layer(x, first, cos, sin)
        return self.head(self.norm(x))


def weight_bytes(config, precision: str) -> int:
    """Bytes that a decoded token reads of the twin's matrices, scales included; the embedding is a look-up."""
    D, width = config.hidden_size, twin_width(config)
    weights = config.num_hidden_layers * (4 * D * D + 3 * D * width) + config.vocab_size * D
    rows = config.num_hidden_layers * (5 * D + 2 * width) + config.vocab_size
    return weights + 4 * rows if precision == "8da8w" else weights // 2 + weights // 32 * 2


class OneLayer(nn.Module):
    """forward(x [1, T, D], start [1]) -> x: a layer of the twin as a program of its own."""

    def __init__(self, config, context: int) -> None:
        super().__init__()
        D, heads = config.hidden_size, config.num_attention_heads
        self.context, self.layer = context, Layer(D, heads, twin_width(config), context)
        add_rotary(self, D // heads, context)

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        first, tokens = start[0].item(), x.shape[1]
        torch._check(first >= 0)
        torch._check(first + tokens <= self.context)
        return self.layer(x, first, self.cos.narrow(0, first, tokens), self.sin.narrow(0, first, tokens))


class Head(nn.Module):
    """forward(x [1, T, D]) -> logits [1, T, V]."""

    def __init__(self, config) -> None:
        super().__init__()
        self.norm, self.head = nn.RMSNorm(config.hidden_size), nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


def export_twin(config, precision: str, context: int, path: Path) -> None:
    """Writes the twin as a .pte, its linear layers on XNNPACK; `precision` is 8da8w or 8da4w (groups of 32).

    RuntimeError if a linear layer stays outside the delegate.
    """
    _export(lambda: Twin(config, context), (torch.zeros(1, 8, dtype=torch.long), torch.tensor([3])), precision, path)


def export_parts(config, precision: str, context: int, layer: Path, head: Path) -> None:
    """One layer and the head as two programs: a large twin loads the first once per layer, and XNNPACK packs weights anew
    each time, so that all layers lie in memory as those of one program would."""
    x = torch.zeros(1, 8, config.hidden_size)
    _export(lambda: OneLayer(config, context), (x, torch.tensor([3])), precision, layer)
    _export(lambda: Head(config), (x,), precision, head)


def _export(make, example: tuple, precision: str, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers llama::
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    from export.lower import quiet_warnings

    torch.manual_seed(0)
    twin = make().eval().requires_grad_(False)
    bits, granularity = (torch.int8, PerAxis(0)) if precision == "8da8w" else (torch.int4, PerGroup(32))
    quantize_(twin, Int8DynamicActivationIntxWeightConfig(weight_dtype=bits, weight_granularity=granularity))
    tokens = torch.export.Dim("tokens", min=1, max=64)
    with torch.no_grad(), quiet_warnings():
        program = torch.export.export(twin, example, dynamic_shapes=({1: tokens}, None)[: len(example)], strict=False)
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()],
                                           compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    left = [str(n.target) for n in edge.exported_program().graph.nodes if n.op == "call_function"
            and any(word in str(n.target) for word in ("linear", "addmm", "aten.mm", "bmm"))]
    if left:
        raise RuntimeError(f"XNNPACK left linear layers to the interpreter: {left}")
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        edge.to_executorch(ExecutorchBackendConfig(
            memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
            sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass())).write_to_file(file)
    part.rename(path)
