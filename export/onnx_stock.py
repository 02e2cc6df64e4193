"""Writes a Decoder as an ONNX graph of operators that ONNX Runtime itself brings: for runtimes that admit no library.

Matrices are MatMulNBits, attention is GroupQueryAttention, the mixture of experts is QMoE with every expert selectable
(k = E), which skips gates of zero but drops negative ones: the sign of the router's norm weight goes into the scales of
down_proj. The weights hold the numbers that export/quantize.py gives every format; activations are quantized inside
those operators, per block instead of per row.

Inputs   token_ids [1,T], positions [T], n_past [1], tree_mask [T], logits_start [1], all int64, and past_0, ...
         [1, heads, C, head size]: keys and values in turn. A node of a tree follows its parent.
Outputs  logits [1,T,V], hidden [1,T,D], present_0, ... which must be bound to the tensors of past_0, ...: the operator
         writes its new rows there. The caller moves the rows of an accepted branch itself.
Heads    GroupQueryAttention wants rotated values first, and sizes in multiples of 16: rows of the projections are
         reordered, and rows of zeros fill up. Latent attention is computed with its keys and values expanded.
Needs    ONNX Runtime 1.26 at 8 bits: QMoE with router weights and blocks; 1.32 at 4 bits: with int8 activations.
"""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from export.decoder import MLA_NORM_EPS, Decoder
from export.onnx_functions import Body
from export.onnx_graph import IR_VERSION, OPSET, TOKENS, add_metadata, make_public
from export.ops import split_kv_b
from export.program import WeightsFile, packing_into
from export.quantize import GROUP, finite, quantize_weight, router_quant

MS = "com.microsoft"
HEAD_MULTIPLE = 16
LARGEST_BLOCK = 128
BITS = {"int8": 8, "int4": 4}
INPUTS = {"token_ids": [1, TOKENS], "positions": [TOKENS], "n_past": [1], "tree_mask": [TOKENS], "logits_start": [1]}


def _padded(size: int) -> int:
    return -(-size // HEAD_MULTIPLE) * HEAD_MULTIPLE


def _rotated_rows(first: int, count: int) -> list[int]:
    """Rows first..first+count of a head for a rotation of padded width: both halves are filled up (-1: zeros)."""
    half, filler = count // 2, [-1] * ((_padded(count) - count) // 2)
    return [*range(first, first + half), *filler, *range(first + half, first + count), *filler]


def _take(weight: Tensor, rows: list[int], dim: int = 0) -> Tensor:
    """The listed rows (columns for dim=1), zeros for -1."""
    index = torch.tensor(rows)
    taken = weight.index_select(dim, index.clamp_min(0)).float()
    return taken * (index >= 0).view(-1, 1) if dim == 0 else taken * (index >= 0)


def _per_head(rows: list[int], heads: int, size: int) -> list[int]:
    return [r if r < 0 else h * size + r for h in range(heads) for r in rows]


class StockGraph(Body):
    """The decoder's nodes, and its weights in a file."""

    def __init__(self, decoder: Decoder, data_name: str, block: int = GROUP) -> None:
        super().__init__(list(INPUTS))
        self.decoder, self.config, self.quant = decoder, decoder.config, decoder.quant
        self.block = block  # of MatMulNBits at 4 bits
        self.attention_quant = decoder.attention_quant  # of the embedding and the head too
        self.data_name, self.weights, self.initializers = data_name, WeightsFile(), []
        self.caches: list[tuple[str, list[int], str]] = []  # input, shape, output
        self.ops, self.weight_bytes, self._shared = Counter(), Counter(), {}

    def ms(self, kind: str, *inputs: str, outputs: int = 1, **attributes):
        self.ops[kind] += 1
        return self.node(kind, inputs, outputs, MS, **attributes)

    def weight(self, array: np.ndarray, owner: str) -> str:
        """A tensor of the data file."""
        array = np.ascontiguousarray(array)
        offset, size = self.weights.add([array.tobytes()])
        if (offset, array.shape) not in self._shared:
            name = f"weight_{len(self.initializers)}"
            tensor = TensorProto(name=name, data_location=TensorProto.EXTERNAL, dims=array.shape)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            for key, text in (("location", self.data_name), ("offset", str(offset)), ("length", str(size))):
                tensor.external_data.add(key=key, value=text)
            self.initializers.append(tensor)
            if not any(at == offset for at, _ in self._shared):
                self.weight_bytes[owner] += size
            self._shared[offset, array.shape] = name
        return self._shared[offset, array.shape]

    def floats(self, tensor: Tensor, owner: str) -> str:
        return self.weight(finite(tensor.detach().float()).numpy(), owner)

    def blocks(self, weight_NK: Tensor, quant: str, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Unsigned values [N, K/block, bytes] and scales [N, K/block] of the operators that take blocks."""
        q = quantize_weight(weight_NK.detach().float(), quant, max(block, GROUP))
        (n, k), bits = q.values_NK.shape, BITS[quant]
        count = -(-k // block)
        values = np.full((n, count * block), 1 << (bits - 1), np.uint8)
        values[:, :k] = q.values_NK.numpy().astype(np.int16) + (1 << (bits - 1))
        if bits == 4:
            values = values[:, ::2] | values[:, 1::2] << 4
        scales = q.scales_NG.float().numpy()
        scales = np.repeat(scales, max(q.group // block, 1), axis=1)[:, :count] if quant == "int4" else scales
        return values.reshape(n, count, -1), np.broadcast_to(scales, (n, count))

    def linear(self, x: str, weight_NK: Tensor, owner: str, scale: float = 1.0, quant: str | None = None) -> str:
        """scale * x weight^T; int8 and int4 as MatMulNBits."""
        quant = quant or (self.quant if owner == "ffn" else self.attention_quant)
        n, k = weight_NK.shape
        if quant == "fp32":
            self.ops["MatMul"] += 1
            return self.MatMul(x, self.floats(weight_NK.detach().float().T * scale, owner))
        # Of int8 all blocks of a row have one scale; the largest are the fastest, where the matrix fills them.
        block = self.block if quant == "int4" else min(LARGEST_BLOCK, max(HEAD_MULTIPLE, 1 << (k - 1).bit_length()))
        values, scales = self.blocks(weight_NK, quant, block)
        inputs = x, self.weight(values, owner), self.weight(scales * np.float32(scale), owner)
        return self.ms("MatMulNBits", *inputs, K=k, N=n, bits=BITS[quant], block_size=block, accuracy_level=4)

    def rms_norm(self, x: str, weight: str, eps: float) -> str:
        """In the form that ONNX Runtime fuses."""
        mean = self.ReduceMean(self.Pow(x, self.float(2)), self.ints(-1), keepdims=1)
        return self.Mul(self.Div(x, self.Sqrt(self.Add(mean, self.float(eps)))), weight)

    def add_norm(self, x: str, y: str, weight: Tensor) -> tuple[str, str]:
        """(x + y, its norm)."""
        total, eps = f"sum_{len(self.nodes)}", self.config.rms_norm_eps
        normed = f"normed_{len(self.nodes)}"
        self.nodes.append(helper.make_node(
            "SkipSimplifiedLayerNormalization", [x, y, self.floats(weight, "norms")], [normed, "", "", total], normed,
            domain=MS, epsilon=eps,
        ))
        self.ops["SkipSimplifiedLayerNormalization"] += 1
        return total, normed

    def chunk(self) -> None:
        """What every layer's attention takes: lengths, positions, the mask of the tree, rotation tables."""
        tokens = self.Shape("positions", start=0, end=1)
        total = self.Add("n_past", tokens)
        self.total = self.Cast(total, to=TensorProto.INT32)
        self.last = self.Cast(self.Sub(total, self.ints(1)), to=TensorProto.INT32)
        self.position_ids = self.Unsqueeze("positions", self.ints(0))
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        column = self.Sub(self.Range(zero, self.Squeeze(total), one), "n_past")
        bit = self.Cast(self.Clip(column, zero, self.constant(63, np.int64)), to=TensorProto.UINT64)
        mask = self.Unsqueeze(self.Cast("tree_mask", to=TensorProto.UINT64), self.ints(1))
        bits = self.BitwiseAnd(self.BitShift(mask, bit, direction="RIGHT"), self.constant(1, np.uint64))
        visible = self.Or(self.Less(column, self.ints(0)), self.Cast(bits, to=TensorProto.BOOL))
        bias = self.Where(visible, self.float(0), self.float(-np.inf))
        self.bias = self.Unsqueeze(bias, self.ints(0, 1))
        inv_freq = self.decoder.inv_freq.double()
        angle = np.zeros((self.decoder.max_context, _padded(2 * len(inv_freq)) // 2))
        angle[:, : len(inv_freq)] = np.arange(len(angle))[:, None] * inv_freq.numpy()[None]
        self.cos, self.sin = (self.weight(f(angle).astype(np.float32), "attention") for f in (np.cos, np.sin))

    def attend(self, q: str, k: str, v: str, heads: int, kv_heads: int, size: int, value: int,
               scale: float) -> str:
        shape = [1, kv_heads, self.decoder.max_context, size]
        past = [f"past_{len(self.caches) + i}" for i in range(2)]
        y = self.ms("GroupQueryAttention", q, k, v, *past, self.last, self.total, self.cos, self.sin, self.position_ids,
                    self.bias, outputs=3, num_heads=heads, kv_num_heads=kv_heads, do_rotary=1, scale=scale)
        for name, present in zip(past, y[1:], strict=True):
            self.caches.append((name, shape, present))
        if size == value:
            return y[0]
        y = self.slice(self.Reshape(y[0], self.ints(1, -1, heads, size)), 0, value, 3)
        return self.Reshape(y, self.ints(1, -1, heads * value))

    def mla(self, x: str, m, scale: float) -> str:
        c, owner = self.config, "attention"
        heads, nope, rope, latent, value = (c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.kv_lora_rank,
                                            c.v_head_dim)
        size = max(_padded(_padded(rope) + nope), _padded(value))
        rotated = _rotated_rows(0, rope)
        rest = [*range(nope), *[-1] * (size - len(rotated) - nope)]
        of_q = _per_head([r if r < 0 else nope + r for r in rotated] + rest, heads, nope + rope)
        of_k = _per_head([-1] * len(rotated) + rest, heads, nope + value)
        of_v = _per_head([*range(nope, nope + value), *[-1] * (size - value)], heads, nope + value)
        q_a = self.rms_norm(self.linear(x, m.q_a_proj, owner), self.floats(m.q_a_layernorm, owner), MLA_NORM_EPS)
        q = self.linear(q_a, _take(m.q_b_proj, of_q), owner)
        shared = [r if r < 0 else latent + r for r in rotated] + [-1] * (size - len(rotated))
        kv = self.linear(x, _take(m.kv_a_proj, [*range(latent), *shared]), owner)
        kv_a, key = self.Split(kv, self.ints(latent, size), outputs=2, axis=-1)
        kv_a = self.rms_norm(kv_a, self.floats(m.kv_a_layernorm, owner), MLA_NORM_EPS)
        key_rows = _take(self.key_part(m.kv_b_proj, heads, nope), of_k)
        key_quant = "int8" if self.attention_quant == "int4" else self.attention_quant
        k = self.Reshape(self.linear(kv_a, key_rows, owner, quant=key_quant), self.ints(1, -1, heads, size))
        k = self.Reshape(self.Add(k, self.Reshape(key, self.ints(1, -1, 1, size))), self.ints(1, -1, heads * size))
        v = self.linear(kv_a, _take(m.kv_b_proj, of_v), owner)
        y = self.attend(q, k, v, heads, heads, size, value, (nope + rope) ** -0.5)
        return self.linear(y, m.o_proj, owner, scale)

    def key_part(self, kv_b_proj: Tensor, heads: int, nope: int) -> Tensor:
        """kv_b_proj with the keys' rows in the numbers of the other formats, whose int4 groups lie across rows."""
        if self.attention_quant != "int4":
            return kv_b_proj
        absorb_HLN, rest = split_kv_b(kv_b_proj.detach().float(), heads, nope)
        rounded = torch.stack([quantize_weight(w, "int4").dequantize().float() for w in absorb_HLN])
        return torch.cat([rounded.transpose(1, 2), rest], dim=1).flatten(0, 1)

    def gqa(self, x: str, m, scale: float) -> str:
        c, owner, dim = self.config, "attention", self.config.v_head_dim
        size, rows = _padded(dim), _rotated_rows(0, dim)
        plain = [*range(dim), *[-1] * (size - dim)]
        q = self.linear(x, _take(m.q_proj, _per_head(rows, c.num_attention_heads, dim)), owner)
        k = self.linear(x, _take(m.k_proj, _per_head(rows, c.num_key_value_heads, dim)), owner)
        v = self.linear(x, _take(m.v_proj, _per_head(plain, c.num_key_value_heads, dim)), owner)
        y = self.attend(q, k, v, c.num_attention_heads, c.num_key_value_heads, size, dim, dim**-0.5)
        return self.linear(y, m.o_proj, owner, scale)

    def dense(self, x: str, m, scale: float) -> str:
        gate, up = (self.linear(x, w, "ffn") for w in (m.gate_proj, m.up_proj))
        return self.linear(self.Mul(self.Mul(gate, self.Sigmoid(gate)), up), m.down_proj, "ffn", scale)

    def experts(self, x: str, m, scale: float) -> str:
        (experts, width, hidden), bits = m.up_proj.shape, BITS[self.quant]
        filled = _padded(width)
        block = GROUP if hidden % GROUP == 0 and filled % GROUP == 0 else HEAD_MULTIPLE
        scores = self.Relu(self.linear(x, m.router_proj, "ffn", quant=router_quant(self.quant)))
        sign = torch.ones(experts)
        if m.norm == "rms":
            sign = torch.where(m.router_norm.detach().float() < 0, -1.0, 1.0)
            gates = self.rms_norm(scores, self.floats(m.router_norm.detach().float().abs() * scale, "ffn"), m.eps)
        elif m.norm == "sum":
            total = self.Mul(self.ReduceSum(scores, self.ints(-1), keepdims=1), self.float(m.norm_scale))
            gates = self.Mul(self.Div(scores, self.Add(total, self.float(1e-5))), self.float(scale))
        else:
            gates = self.Mul(scores, self.float(scale))
        up_values, up_scales, down_values, down_scales = [], [], [], []
        for e in range(experts):
            values, scales = self.blocks(_take(m.up_proj[e].detach(), [*range(width), *[-1] * (filled - width)]),
                                         self.quant, block)
            up_values.append(values.reshape(filled, -1))
            up_scales.append(scales)
            values, scales = self.blocks(
                _take(m.down_proj[e].detach(), [*range(width), *[-1] * (filled - width)], dim=1), self.quant, block
            )
            down_values.append(values.reshape(hidden, -1))
            down_scales.append(scales * sign[e].item())
        packed = (self.weight(np.stack(up_values), "ffn"), self.weight(np.stack(up_scales), "ffn"), "",
                  self.weight(np.stack(down_values), "ffn"), self.weight(np.stack(down_scales), "ffn"), "")
        gates = self.Reshape(gates, self.ints(-1, experts))
        fast = {"accuracy_level": 4} if self.quant == "int4" else {}  # int8 activations, which ONNX Runtime 1.26 does not know
        return self.ms("QMoE", x, gates, *packed, *[""] * 6, gates, activation_type="silu", k=experts,
                       normalize_routing_weights=0, expert_weight_bits=bits, block_size=block, **fast)

    def embedding(self) -> str:
        table, scale = self.decoder.embed_tokens, float(self.config.scale_emb)
        if self.attention_quant == "fp32":
            return self.Mul(self.Gather(self.floats(table, "embedding"), "token_ids"), self.float(scale))
        values, scales = self.blocks(table, self.attention_quant, GROUP)
        values = values.reshape(len(values), -1)[:, : table.shape[1] * BITS[self.attention_quant] // 8]  # here without filler
        rows = self.weight(values, "embedding"), "token_ids"
        return self.ms("GatherBlockQuantized", *rows, self.weight(scales * np.float32(scale), "embedding"),
                       bits=BITS[self.attention_quant], block_size=GROUP, gather_axis=0, quantize_axis=1)

    def build(self) -> list[str]:
        """Adds every node; the names of logits and hidden states."""
        self.chunk()
        layers = list(self.decoder.layers)
        h = self.embedding()
        x = self.rms_norm(h, self.floats(layers[0].input_layernorm, "norms"), self.config.rms_norm_eps)
        after = [layer.input_layernorm for layer in layers[1:]] + [self.decoder.norm]
        for layer, norm in zip(layers, after, strict=True):
            scale = layer.residual_scale
            attention = self.mla if self.config.attention_type == "mla" else self.gqa
            h, x = self.add_norm(h, attention(x, layer.self_attn, scale), layer.post_attention_layernorm)
            ffn = self.experts if self.config.is_block_ffn else self.dense
            h, x = self.add_norm(h, ffn(x, layer.mlp, scale), norm)
        wanted = self.slice(x, "logits_start", 2**62, 1)
        logits = self.linear(wanted, self.decoder.lm_head, "logits", self.decoder.logits_scale)
        skipped = self.Concat(self.ints(1), "logits_start", self.ints(len(self.decoder.lm_head)), axis=0)
        zeros = self.ConstantOfShape(skipped, value=numpy_helper.from_array(np.zeros(1, np.float32)))
        return [self.Concat(zeros, logits, axis=1), x]

    def model(self) -> onnx.ModelProto:
        logits, hidden = self.build()
        c = self.config
        renamed = {logits: "logits", hidden: "hidden"} | {present: name.replace("past", "present")
                                                          for name, _, present in self.caches}
        for node in self.nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        info = helper.make_tensor_value_info
        past = [(name, shape) for name, shape, _ in self.caches]
        graph = helper.make_graph(
            self.nodes, "decoder",
            [info(name, TensorProto.INT64, shape) for name, shape in INPUTS.items()]
            + [info(name, TensorProto.FLOAT, shape) for name, shape in past],
            [info("logits", TensorProto.FLOAT, [1, TOKENS, c.vocab_size]),
             info("hidden", TensorProto.FLOAT, [1, TOKENS, c.hidden_size])]
            + [info(name.replace("past", "present"), TensorProto.FLOAT, shape) for name, shape in past],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, producer_name="blockffn", opset_imports=opsets, ir_version=IR_VERSION)


def check_expressible(decoder: Decoder) -> None:
    """ValueError if the operators cannot hold the model."""
    if decoder.config.is_block_ffn:
        if decoder.quant == "fp32":
            raise ValueError("QMoE has 4 and 8 bits; choose --quant int8 or int4")
        if decoder.config.hidden_size % HEAD_MULTIPLE:
            raise ValueError(f"QMoE needs a hidden_size in multiples of {HEAD_MULTIPLE}, not {decoder.config.hidden_size}; "
                             "export without --ffn qmoe")


@torch.no_grad()
def write_stock(decoder: Decoder, path: Path, eos_ids: list[int] | None = None,
                on_packed: Callable[[int], None] | None = None, block: int = GROUP):
    """As onnx_graph.write_onnx. Blocks of more than 32 columns are for speed alone: their int4 numbers are coarser."""
    from export.lower import Lowered, one_thread

    check_expressible(decoder)
    data = path.with_name(path.name + ".data")
    with packing_into(str(path.parent), on_packed), one_thread():
        graph = StockGraph(decoder, data.name, block)
        try:
            model = graph.model()
        except BaseException:
            graph.weights.discard()
            raise
        weights, _, _ = graph.weights.finish()
    add_metadata(model, decoder.metadata(eos_ids))
    shutil.move(weights, data)
    make_public(data)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())
    onnx.checker.check_model(str(path), full_check=True)
    return Lowered(path.stat().st_size + data.stat().st_size, Counter({f"domain {MS}": 1}), graph.ops, graph.weight_bytes)
