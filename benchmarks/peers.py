"""What is compared: our delegate, and the dense twin or the same experts in other runtimes.

A peer builds a file of L layers of its own weights once, sum_l layer_l(x) -> y, and loads it as a callable. While it
builds it adds up, in float64, what the weights as it stores them must give; a peer that computes something else is no
peer.

Kinds  sparse reads the experts of the chunk; dense reads the twin of as many weights.
Axes   as in layers.py.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import onnx_peers
from benchmarks.layers import EPS, Inputs, Size, dense_reference, dense_weights, sparse_reference, sparse_weights

Run = Callable[[np.ndarray], np.ndarray]  # x [T, D] -> y [T, D]
LAYER_BYTES = 128 << 20  # of a peer's weights in one file, about


@dataclass(frozen=True)
class Peer:
    """bits of a stored weight, its scales included; tolerance, the relative RMS error of a token that activations in
    int8 (or bfloat16) explain; save(size, inputs, layers, path) yields per layer the weights as they are stored;
    load(path, size, inputs, layers, threads) -> Run, which of our operators has take_stats() -> Stats of its runs."""

    name: str
    kind: str
    precision: str
    bits: float
    tolerance: float
    needs: tuple[str, ...]
    save: Callable[..., Iterator[dict[str, Tensor]]]
    load: Callable[..., Run]

    def layers(self, size: Size) -> int:
        """Layers of one file."""
        return min(size.layers, max(1, round(LAYER_BYTES / (size.weights * self.bits / 8))))

    def read_bytes(self, size: Size, union: float) -> float:
        """Bytes of weights that a chunk which needs `union` experts reads in one layer."""
        if self.kind == "dense":
            return size.dense_weights * self.bits / 8
        router = size.experts * size.hidden  # int8
        if "blockffn" not in self.name:
            return router + union * size.weights / size.experts * self.bits / 8
        from export.pack import tiles

        up, down = ((size.width, size.hidden), (size.hidden, size.width))
        return router + union * sum(len(tiles(torch.ones(shape), self.precision)) for shape in (up, down))

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


def build(peer: Peer, size: Size, inputs: Inputs, path: Path) -> None:
    """Writes path (for peers with a file) and path.npy, the expected y [V, T, D] (dense: V = 1)."""
    layers = peer.layers(size)
    reference = sparse_reference if peer.kind == "sparse" else dense_reference
    x = inputs.x_VTD if peer.kind == "sparse" else inputs.x_VTD[:1]
    expected = torch.zeros(x.shape, dtype=torch.float64)
    part = path.with_suffix(path.suffix + ".part")
    for weights in peer.save(size, inputs, layers, part):
        for v in range(len(x)):
            expected[v] += reference(x[v], weights)
    np.save(f"{part}.npy", expected.numpy())
    if part.exists():
        part.rename(path)
    os.replace(f"{part}.npy", f"{path}.npy")


def error_of(y_TD: np.ndarray, expected_TD: np.ndarray) -> float:
    """Largest relative RMS error of a token; NaN if anything is not finite. Zero where a token must be, and is, zero."""
    difference = np.sqrt(np.square(y_TD - expected_TD).mean(axis=1))
    scale = np.sqrt(np.square(expected_TD).mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(difference == 0, 0.0, difference / scale)
    return float(relative.max())


# ExecuTorch: ours, and XNNPACK.


def _method(path: Path) -> Run:
    from runtime_delegates.loader import executorch_runtime
    from runtime_delegates.logs import quiet_log

    with quiet_log():
        program = executorch_runtime._load_program(
            str(path), program_verification=executorch_runtime.Verification.InternalConsistency)
        method = program.load_method("forward")
    return lambda x: method((torch.from_numpy(x),))[0].numpy()


def _lower(module: nn.Module, size: Size, partitioner, path: Path) -> None:
    """Writes a .pte whose every operator is delegated."""
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower

    example = (torch.randn(8, size.hidden),)
    shapes = ({0: torch.export.Dim("T", min=1, max=64)},)
    with torch.no_grad():
        program = torch.export.export(module.eval(), example, dynamic_shapes=shapes)
        edge = to_edge_transform_and_lower(
            program, partitioner=[partitioner], compile_config=EdgeCompileConfig(_check_ir_validity=False)
        )
    calls = [n for n in edge.exported_program().graph.nodes if n.op == "call_function"]
    left = [str(n.target) for n in calls if "getitem" not in str(n.target) and "call_delegate" not in str(n.target)]
    if left:
        raise RuntimeError(f"{partitioner.__class__.__name__} left operators to the interpreter: {left}")
    with path.open("wb") as file:
        edge.to_executorch(ExecutorchBackendConfig(segment_alignment=16384)).write_to_file(file)


class _Sparse(nn.Module):
    def __init__(self, layers: list[dict[str, Tensor]], quant: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ParameterDict({k: nn.Parameter(v, requires_grad=False) for k, v in w.items()}) for w in layers
        )
        self.quant = quant

    def forward(self, x_TD: Tensor) -> Tensor:
        y_TD = None
        for w in self.layers:
            weights = w["router"], w["norm"], w["up"], w["down"]
            out = torch.ops.blockffn.chunk_sparse_ffn(x_TD, *weights, "rms", EPS, 1.0, 1.0, self.quant)
            y_TD = out if y_TD is None else torch.ops.blockffn.add(y_TD, out)
        return y_TD


def _write_pte(module: nn.Module, size: Size, path: Path) -> None:
    from export.backend import BlockFFNPartitioner

    _lower(module, size, BlockFFNPartitioner(), path)


def _save_ours(quant: str, write=_write_pte):
    def save(size: Size, inputs: Inputs, layers: int, path: Path):
        from export.quantize import quantize_weight

        def stored(weight: Tensor, precision: str) -> Tensor:
            flat = weight.reshape(-1, weight.shape[-1])
            return quantize_weight(flat, precision).dequantize().view(weight.shape)

        weights = [sparse_weights(size, inputs, layer) for layer in range(layers)]
        write(_Sparse(weights, quant), size, path)
        for w in weights:
            yield {"router": stored(w["router"], "int8"), "norm": w["norm"], "up": stored(w["up"], quant),
                   "down": stored(w["down"], quant)}

    return save


def _load_ours(path: Path, size: Size, inputs: Inputs, layers: int, threads: int) -> Run:
    from runtime_delegates.loader import load_backend

    backend = load_backend()
    if backend.threads != threads:  # a new pool would leave programs loaded before with the old one
        backend.set_threads(threads)
    run = _method(path)
    run.take_stats = backend.take_stats
    return run


class _Dense(nn.Module):
    """The twins as plain linear layers: x -> sum_l down(silu(gate x) * up x)."""

    def __init__(self, layers: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({k: self._linear(v) for k, v in w.items()}) for w in layers)

    @staticmethod
    def _linear(weight: Tensor) -> nn.Linear:
        with torch.device("meta"):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        return linear

    def forward(self, x_TD: Tensor) -> Tensor:
        y_TD = None
        for m in self.layers:
            out = m["down"](nn.functional.silu(m["gate"](x_TD)) * m["up"](x_TD))
            y_TD = out if y_TD is None else y_TD + out
        return y_TD


def _save_xnnpack(precision: str):
    def save(size: Size, inputs: Inputs, layers: int, path: Path):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        model = _Dense([dense_weights(size, layer) for layer in range(layers)])
        if precision != "fp32":
            from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerAxis, PerGroup, quantize_

            dtype, granularity = (torch.int4, PerGroup(32)) if precision == "int4" else (torch.int8, PerAxis(0))
            quantize_(model, Int8DynamicActivationIntxWeightConfig(weight_dtype=dtype, weight_granularity=granularity))
        _lower(model, size, XnnpackPartitioner(), path)
        for m in model.layers:
            yield {k: w.weight.dequantize() if precision != "fp32" else w.weight.detach() for k, w in m.items()}

    return save


def _load_xnnpack(path: Path, size: Size, inputs: Inputs, layers: int, threads: int) -> Run:
    return _load_ours(path, size, inputs, layers, threads)  # the same runtime, the same pool


def _torch(dtype: torch.dtype):
    def save(size: Size, inputs: Inputs, layers: int, path: Path):
        for layer in range(layers):
            yield {k: w.to(dtype) for k, w in dense_weights(size, layer).items()}

    def load(path: Path, size: Size, inputs: Inputs, layers: int, threads: int) -> Run:
        torch.set_num_threads(threads)
        model = _Dense([{k: w.to(dtype) for k, w in dense_weights(size, layer).items()} for layer in range(layers)])

        def run(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return model(torch.from_numpy(x).to(dtype)).float().numpy()

        return run

    return save, load


def _peers() -> list[Peer]:
    et, ort = ("executorch",), ("onnxruntime", "onnx")
    load_ort, load_ours = onnx_peers.load, onnx_peers.load_ours
    dense_onnx, sparse_onnx = onnx_peers.save_dense, onnx_peers.save_sparse
    return [
        Peer("blockffn-int8", "sparse", "int8", 8, 0.05, et, _save_ours("int8"), _load_ours),
        Peer("blockffn-int4", "sparse", "int4", 4.5, 0.05, et, _save_ours("int4"), _load_ours),
        Peer("ort-blockffn-int8", "sparse", "int8", 8, 0.05, et + ort, _save_ours("int8", onnx_peers.write_ours), load_ours),
        Peer("ort-blockffn-int4", "sparse", "int4", 4.5, 0.05, et + ort, _save_ours("int4", onnx_peers.write_ours), load_ours),
        Peer("xnnpack-fp32", "dense", "fp32", 32, 1e-4, et, _save_xnnpack("fp32"), _load_xnnpack),
        Peer("xnnpack-8da8w", "dense", "int8", 8, 0.05, et, _save_xnnpack("int8"), _load_xnnpack),
        Peer("xnnpack-8da4w", "dense", "int4", 4.5, 0.05, et, _save_xnnpack("int4"), _load_xnnpack),
        Peer("ort-nbits8-g128", "dense", "int8", 8.25, 0.05, ort, dense_onnx(8, 128), load_ort),
        Peer("ort-nbits4-g32", "dense", "int4", 5, 0.05, ort, dense_onnx(4, 32), load_ort),
        Peer("ort-nbits4-g128", "dense", "int4", 4.25, 0.05, ort, dense_onnx(4, 128), load_ort),
        # One scale of the activations for the whole chunk, not one a token; without VNNI its 16-bit sums saturate, too.
        Peer("ort-dynamic-int8", "dense", "int8", 8, 0.12, ort, dense_onnx(8, None), load_ort),
        Peer("ort-qmoe8", "sparse", "int8", 9, 0.05, ort, sparse_onnx(8), load_ort),
        Peer("ort-qmoe4", "sparse", "int4", 5, 0.05, ort, sparse_onnx(4), load_ort),
        Peer("torch-fp32", "dense", "fp32", 32, 1e-4, (), *_torch(torch.float32)),
        Peer("torch-bf16", "dense", "bf16", 16, 0.03, (), *_torch(torch.bfloat16)),
    ]


PEERS = {peer.name: peer for peer in _peers()}
