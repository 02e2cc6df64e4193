"""Peers in ONNX Runtime: dense twins of MatMulNBits or dynamically quantized int8, QMoE with every expert
selectable, which skips those of gate zero, and our operator.

Axes  N output rows, K input columns, G groups of a row; the rest as in layers.py.
"""

from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.layers import EPS, Inputs, Size, dense_weights, sparse_weights

MOE_GROUP = 32  # divides the expert width of every size


def _quantize(weight: Tensor, bits: int, group: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Symmetric, the peak of a group at -2^(bits-1): unsigned values [..., K], scales [..., G], stored weights."""
    top = 2.0 ** (bits - 1)
    groups = weight.reshape(*weight.shape[:-1], -1, group)
    peak = torch.gather(groups, -1, groups.abs().argmax(dim=-1, keepdim=True))
    scale = peak / -top
    q = (groups / scale).round().clamp(-top, top - 1)
    stored = (q * scale).reshape(weight.shape)
    return (q + top).to(torch.uint8).reshape(weight.shape).numpy(), scale[..., 0].numpy(), stored


def _nibbles(values: np.ndarray, bits: int) -> np.ndarray:
    """Two 4-bit values a byte, the earlier in the low half."""
    return values if bits == 8 else values[..., ::2] | values[..., 1::2] << 4


class _Graph:
    def __init__(self) -> None:
        self.nodes, self.constants = [], []

    def constant(self, array: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes) -> str:
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def save(self, outs: list[str], hidden: int, path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        y = outs[0]
        for out in outs[1:]:
            y = self.node("Add", y, out)
        self.nodes[-1].output[0] = "y"
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["T", hidden]) for n in "xy"]
        graph = helper.make_graph(self.nodes, "ffn", info[:1], info[1:], self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))


def _nbits(graph: _Graph, x: str, weight_NK: Tensor, bits: int, group: int) -> tuple[str, Tensor]:
    """MatMulNBits with int8 activations; K is a multiple of the group."""
    N, K = weight_NK.shape
    values, scales, stored = _quantize(weight_NK, bits, group)
    packed = _nibbles(values, bits).reshape(N, K // group, -1)
    inputs = x, graph.constant(packed), graph.constant(scales.astype(np.float32))
    settings = dict(K=K, N=N, bits=bits, block_size=group, accuracy_level=4)
    return graph.node("MatMulNBits", *inputs, domain="com.microsoft", **settings), stored


def _dynamic_int8(graph: _Graph, x: str, weight_NK: Tensor) -> tuple[str, Tensor]:
    """What onnxruntime's quantize_dynamic ends up as: int8 weights, a scale per output row."""
    scale = weight_NK.abs().amax(dim=1) / 127
    q = (weight_NK / scale[:, None]).round()
    inputs = x, graph.constant(q.T.to(torch.int8).numpy()), graph.constant(scale.numpy())
    return graph.node("DynamicQuantizeMatMul", *inputs, domain="com.microsoft"), q * scale[:, None]


def save_dense(bits: int, group: int | None):
    """Dense twins of MatMulNBits with the group, or of DynamicQuantizeMatMul for None."""

    def save(size: Size, inputs: Inputs, layers: int, path: Path) -> Iterator[dict[str, Tensor]]:
        graph, outs, stored = _Graph(), [], []

        def linear(x: str, weight: Tensor, name: str) -> str:
            out, stored[-1][name] = (
                _dynamic_int8(graph, x, weight) if group is None else _nbits(graph, x, weight, bits, group)
            )
            return out

        for layer in range(layers):
            w = dense_weights(size, layer)
            stored.append({})
            gate = linear("x", w["gate"], "gate")
            silu = graph.node("Mul", gate, graph.node("Sigmoid", gate))
            outs.append(linear(graph.node("Mul", silu, linear("x", w["up"], "up")), w["down"], "down"))
        graph.save(outs, size.hidden, path)
        yield from stored

    return save


def save_sparse(bits: int):
    """QMoE with k = E. It drops negative gates, so a negative weight of the router's norm goes into down."""

    def save(size: Size, inputs: Inputs, layers: int, path: Path) -> Iterator[dict[str, Tensor]]:
        graph, outs, all_stored = _Graph(), [], []
        settings = dict(activation_type="silu", k=size.experts, normalize_routing_weights=0, expert_weight_bits=bits,
                        block_size=MOE_GROUP, accuracy_level=4, weights_prepacked=0)
        for layer in range(layers):
            w = sparse_weights(size, inputs, layer)
            sign = w["norm"].sign()
            stored = {"norm": w["norm"]}
            scores, stored["router"] = _nbits(graph, "x", w["router"], 8, 128)
            scores = graph.node("Relu", scores)
            square = graph.node("ReduceMean", graph.node("Mul", scores, scores),
                                graph.constant(np.array([1])), keepdims=1)
            root = graph.node("Sqrt", graph.node("Add", square, graph.constant(np.array(EPS, dtype=np.float32))))
            gates = graph.node("Mul", graph.node("Div", scores, root), graph.constant(w["norm"].abs().numpy()))
            packed = []
            for name, weight in (("up", w["up"]), ("down", w["down"] * sign[:, None, None])):
                values, scales, stored[name] = _quantize(weight, bits, MOE_GROUP)
                packed += [graph.constant(_nibbles(values, bits)), graph.constant(scales.astype(np.float32)), ""]
            stored["down"] = stored["down"] * sign[:, None, None]
            all_stored.append(stored)
            outs.append(graph.node("QMoE", "x", gates, *packed, *[""] * 6, gates, domain="com.microsoft", **settings))
        graph.save(outs, size.hidden, path)
        yield from all_stored

    return save


def write_ours(module, size: Size, path: Path) -> None:
    """A module of our operators as a directory that holds its model."""
    from export.onnx_graph import write_graph
    from export.program import packing_into

    path.mkdir(exist_ok=True)
    with torch.no_grad(), packing_into(str(path)):
        program = torch.export.export(module.eval(), (torch.randn(8, size.hidden),),
                                      dynamic_shapes=({0: torch.export.Dim("T", min=1, max=64)},)).run_decompositions({})
        write_graph(program, path / "model.onnx", {}, ["x"], ["y"])


def load_ours(path: Path, size: Size, inputs: Inputs, layers: int, threads: int):
    """The model, with take_stats() of its last run."""
    from export.onnx_graph import library_path
    from runtime_delegates.onnx_model import last_call, operator_library

    library = operator_library()
    session = _session(library_path(path / "model.onnx"), threads, library)

    def run(x: np.ndarray) -> np.ndarray:
        return session.run(None, {"x": x})[0]

    run.take_stats = lambda: last_call(library)
    return run


def load(path: Path, size: Size, inputs: Inputs, layers: int, threads: int):
    session = _session(path, threads)
    return lambda x: session.run(None, {"x": x})[0]


def _session(path: Path, threads: int, library: Path | None = None):
    """A session whose threads stop spinning as soon as a run ends: they would disturb the peers after it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
