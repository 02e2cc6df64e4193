"""Small programs for the delegate's tests: modules of `blockffn::` ops, lowered to .pte files.

Weights lie on the quantizer's grid, so that they are represented exactly and the oracle can take them
as they are: int8 rows are multiples of a float16 scale that reach 127 times it, int4 groups of 32 reach -8 times it.
"""

import collections

import numpy as np
import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import nn

import export.ops  # noqa: F401  registers the operators
from export.backend import BlockFFNPartitioner

ops = torch.ops.blockffn
SEGMENT_ALIGNMENT = 16384
CONTEXT = 150


# Under the second no value that an int8 cache rounds lies so near a tie that it might go either way: the bound stays narrow.
ROWS_SEED = {"fp32": 1, "int8": 12}


def on_grid(rng, shape, quant, low=-1.0, scale=1.0):
    """Random weights [..., N, K] of about unit output variance that `quant` represents exactly.

    low moves their mean: -1 is symmetric, 0 leaves no negative values.
    """
    *outer, rows, columns = shape
    if quant == "fp32":
        return torch.from_numpy((scale * rng.uniform(low, 1, shape) * (3 / columns) ** 0.5).astype(np.float32))
    top = 127 if quant == "int8" else 8
    width = columns if quant == "int8" else 32
    out = np.zeros(shape)
    for index in np.ndindex(*outer, rows):
        for k in range(0, columns, width):
            q = rng.integers(round(low * (top - 1)), top, min(width, columns - k)).astype(np.float64)
            q[rng.integers(len(q))] = top if quant == "int8" else -top
            step = np.float16(scale * (3 / columns) ** 0.5 / top * rng.uniform(0.5, 1.5))
            # an int4 scale may be negative: -8 is the far end of its range, whatever the sign of the weight there
            sign = rng.choice([-1, 1]) if quant == "int4" and low == -1 else 1
            out[index][k : k + width] = sign * q * float(step)
    return torch.from_numpy(out.astype(np.float32))


def frozen(tensor):
    return nn.Parameter(tensor, requires_grad=False)


class Dense(nn.Module):
    """One of each dense op, every one straight on an input."""

    SIZES = {"odd": (37, 19, 45), "even": (64, 48, 72)}  # D, N, V

    def __init__(self, quant, size, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.quant = quant
        D, N, V = self.SIZES[size]
        self.table = frozen(on_grid(rng, (V, D), quant))
        self.weight = frozen(on_grid(rng, (N, D), quant))
        if quant == "int8":  # a row whose float16 scale is subnormal
            self.weight[0] = torch.from_numpy(rng.integers(-127, 127, D).astype(np.float32)) * 3 * 2.0**-24
            self.weight[0, 0] = 127 * 3 * 2.0**-24
        self.bias = frozen(torch.from_numpy(rng.normal(size=N).astype(np.float32)))
        self.norm = frozen(torch.from_numpy(rng.normal(size=D).astype(np.float32)))

    def forward(self, ids, x, gate, logits_start):
        return (
            ops.embedding(ids, self.table, 1.5, self.quant),
            ops.rms_norm(x, self.norm, 1e-5),
            ops.final_norm(x, self.norm, 1e-6),
            ops.linear(x, self.weight, None, 0.75, self.quant),
            ops.linear(x, self.weight, self.bias, 1.0, self.quant),
            ops.silu_mul(gate, x),
            ops.add(gate, x),
            ops.logits(x, self.table, logits_start, 0.25, self.quant),
        )

    def inputs(self, tokens, seed=1):
        rng = np.random.default_rng(seed)
        V, D = self.table.shape
        x, gate = (torch.from_numpy(rng.normal(size=(64, D)).astype(np.float32)) for _ in range(2))
        ids = torch.from_numpy(rng.integers(0, V, (1, 64)))
        return ids[:, :tokens], x[:tokens], 4 * gate[:tokens], torch.tensor([0])


class Ffn(nn.Module):
    """The sparse FFN with each of the three router norms."""

    SIZES = {"odd": (37, 19, 5), "even": (64, 32, 8)}  # D, F, E

    def __init__(self, quant, size, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        D, F, E = self.SIZES[size] if isinstance(size, str) else size
        self.quant = quant
        # Mostly positive: x = 1 then activates every expert and x = -1 none.
        self.router = frozen(on_grid(rng, (E, D), "fp32" if quant == "fp32" else "int8", low=-0.3))
        self.router_norm = frozen(torch.from_numpy(rng.normal(size=E).astype(np.float32)))
        if E > 2:
            self.router_norm[1] = -abs(self.router_norm[1])
            self.router_norm[2] = 0.0
        self.up = frozen(on_grid(rng, (E, F, D), quant))
        self.down = frozen(on_grid(rng, (E, D, F), quant))

    def settings(self, norm):
        return norm, 1e-5, 0.7, 0.5, self.quant

    def forward(self, x):
        weights = self.router, self.router_norm, self.up, self.down
        return tuple(ops.chunk_sparse_ffn(x, *weights, *self.settings(norm)) for norm in ("rms", "sum", "none"))

    def inputs(self, tokens, seed=2):
        rng = np.random.default_rng(seed)
        return (torch.from_numpy(rng.normal(size=(64, self.router.shape[1])).astype(np.float32))[:tokens],)


def inv_freq(width):
    return 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)


class Mla(nn.Module):
    HEADS, NOPE, ROPE, LATENT, VALUE = 3, 9, 6, 20, 7

    def __init__(self, quant, seed=0, context=CONTEXT, kv_quant="fp32"):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.quant, self.kv_quant = quant, kv_quant
        # Both halves of kv_b_proj are quantized in the orientation in which they are multiplied.
        self.absorb = on_grid(rng, (self.HEADS, self.LATENT, self.NOPE), quant, scale=3)
        self.expand = on_grid(rng, (self.HEADS, self.VALUE, self.LATENT), quant)
        self.kv_b_proj = frozen(torch.cat([self.absorb.transpose(1, 2), self.expand], dim=1).flatten(0, 1))
        self.kv_norm = frozen(torch.from_numpy(rng.normal(size=self.LATENT).astype(np.float32)))
        self.register_buffer("inv_freq", inv_freq(self.ROPE))
        self.register_buffer("cache", torch.zeros(context, self.LATENT + self.ROPE))

    def forward(self, q, kv, positions, n_past, tree_mask, kv_src):
        y, cache = ops.mla_attention(
            q,
            kv,
            self.kv_norm,
            self.kv_b_proj,
            self.inv_freq,
            self.cache,
            positions,
            n_past,
            tree_mask,
            kv_src,
            self.HEADS,
            self.NOPE,
            1e-6,
            self.quant,
            self.kv_quant,
        )
        self.cache.copy_(cache)
        return y

    def rows(self, tokens, seed=None):
        """q and kv of `tokens` tokens."""
        rng = np.random.default_rng(seed or ROWS_SEED[self.kv_quant])
        widths = self.HEADS * (self.NOPE + self.ROPE), self.LATENT + self.ROPE
        return tuple(torch.from_numpy(rng.normal(size=(tokens, w)).astype(np.float32)) for w in widths)


class Gqa(nn.Module):
    def __init__(self, heads, kv_heads, width=10, context=CONTEXT, kv_quant="fp32"):
        super().__init__()
        self.kv_quant = kv_quant
        self.heads, self.kv_heads, self.width = heads, kv_heads, width
        self.register_buffer("inv_freq", inv_freq(width))
        self.register_buffer("key_cache", torch.zeros(context, kv_heads * width))
        self.register_buffer("value_cache", torch.zeros(context, kv_heads * width))

    def forward(self, q, k, v, positions, n_past, tree_mask, kv_src):
        y, keys, values = ops.gqa_attention(
            q,
            k,
            v,
            self.inv_freq,
            self.key_cache,
            self.value_cache,
            positions,
            n_past,
            tree_mask,
            kv_src,
            self.heads,
            self.kv_heads,
            None,
            self.kv_quant,
        )
        self.key_cache.copy_(keys)
        self.value_cache.copy_(values)
        return y

    def rows(self, tokens, seed=None):
        rng = np.random.default_rng(seed or ROWS_SEED[self.kv_quant])
        widths = self.heads * self.width, self.kv_heads * self.width, self.kv_heads * self.width
        return tuple(torch.from_numpy((2 * rng.normal(size=(tokens, w))).astype(np.float32)) for w in widths)


class Stack(nn.Module):
    """A decoder in miniature: every op, two kinds of attention, two caches, from token ids to logits."""

    D, E, F, V = 37, 5, 19, 50

    def __init__(self, quant, seed=0, context=CONTEXT):
        super().__init__()
        self.quant = quant
        rng = np.random.default_rng(seed)
        self.mla, self.gqa, self.ffn = Mla(quant, context=context), Gqa(4, 2, context=context), Ffn(quant, "odd")
        mla = self.mla
        shapes = {
            "table": (self.V, self.D),
            "q": (mla.HEADS * (mla.NOPE + mla.ROPE), self.D),
            "kv": (mla.LATENT + mla.ROPE, self.D),
            "o": (self.D, mla.HEADS * mla.VALUE),
            "gq": (40, self.D),
            "gk": (20, self.D),
            "gv": (20, self.D),
            "go": (self.D, 40),
            "gate": (self.F, self.D),
            "up": (self.F, self.D),
            "down": (self.D, self.F),
        }
        self.weights = nn.ParameterDict({n: frozen(on_grid(rng, s, quant)) for n, s in shapes.items()})
        self.norm = frozen(torch.from_numpy(1 + 0.1 * rng.normal(size=self.D).astype(np.float32)))

    def forward(self, ids, positions, n_past, tree_mask, kv_src, logits_start):
        w, chunk = self.weights, (positions, n_past, tree_mask, kv_src)
        linear = lambda x, name: ops.linear(x, w[name], None, 1.0, self.quant)  # noqa: E731
        norm = lambda x: ops.rms_norm(x, self.norm, 1e-5)  # noqa: E731
        h = ops.embedding(ids, w["table"], 2.0, self.quant)
        x = norm(h)
        h = ops.add(h, linear(self.mla(linear(x, "q"), linear(x, "kv"), *chunk), "o"))
        h = ops.add(h, self.ffn(norm(h))[0])
        x = norm(h)
        h = ops.add(h, linear(self.gqa(linear(x, "gq"), linear(x, "gk"), linear(x, "gv"), *chunk), "go"))
        x = norm(h)
        h = ops.add(h, linear(ops.silu_mul(linear(x, "gate"), linear(x, "up")), "down"))
        h = norm(h)
        return ops.logits(h, w["table"], logits_start, 1.0, self.quant), h


NO_COMPACTION = torch.full((64,), -1)


def kept(*source_rows):
    """kv_src that keeps the given rows of the previous chunk."""
    return torch.tensor([*source_rows, *[-1] * (64 - len(source_rows))])


def causal(tokens):
    """tree_mask of a linear chunk: token i sees 0..i."""
    return torch.tensor([(1 << (i + 1)) - 1 if i < 63 else -1 for i in range(tokens)])


def chunk(tokens, n_past):
    """positions, n_past, tree_mask and kv_src of a linear chunk."""
    return torch.arange(n_past, n_past + tokens), torch.tensor([n_past]), causal(tokens), NO_COMPACTION


def to_edge(module, example):
    """The module lowered with BlockFFNPartitioner, and its one delegate.

    example has T >= 2 tokens; its tensors of that length (or [1, T]) become dynamic.
    """
    tokens = next(x.shape[-1] if x.shape[0] == 1 else x.shape[0] for x in example)
    T = torch.export.Dim("T", min=1, max=64)
    shapes = tuple(
        {0: T} if x.shape[0] == tokens else {1: T} if tuple(x.shape) == (1, tokens) else None for x in example
    )
    program = torch.export.export(module.eval(), example, dynamic_shapes=shapes)
    edge = to_edge_transform_and_lower(
        program, partitioner=[BlockFFNPartitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False)
    )
    outer = edge.exported_program().graph_module
    calls = [n for n in outer.graph.nodes if n.op == "call_function" and "getitem" not in str(n.target)]
    delegates = [getattr(outer, n.args[0].target) for n in calls if "executorch_call_delegate" in str(n.target)]
    assert len(calls) == len(delegates) == 1, f"not everything went into one delegate: {calls}"
    assert delegates[0].backend_id == "BlockFFNBackend"
    return edge, delegates[0]


def lower(module, example, path):
    """Writes the module's .pte and returns how often each op was delegated."""
    edge, delegate = to_edge(module, example)
    counts = collections.Counter(
        n.target._schema.name.partition("::")[2]
        for n in delegate.original_module.graph.nodes
        if n.op == "call_function" and hasattr(n.target, "_schema")
    )
    with open(path, "wb") as file:
        edge.to_executorch(ExecutorchBackendConfig(segment_alignment=SEGMENT_ALIGNMENT)).write_to_file(file)
    return dict(counts)


def lower_to_blobs(module, example):
    """What the delegate is given: the bytes of its program and of its weights."""
    _, delegate = to_edge(module, example)
    (weights,) = delegate.named_data_store_output.buffers
    return delegate.processed_bytes, weights if isinstance(weights, bytes) else weights.to_bytes()


def load(path):
    """A fresh method with empty caches; loaded from the path, so that weights are memory-mapped."""
    return Runtime.get().load_program(str(path)).load_method("forward")


def execute(method, *inputs):
    """Outputs as numpy arrays that outlive the next call."""
    return [out.numpy().copy() for out in method.execute(inputs)]
