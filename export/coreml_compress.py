"""Weight compression of a Core ML model: the numbers, and the graph pass that puts them into a program.

    int8      one scale per output row                                     constexpr_blockwise_shift_scale
    int4      one scale per block of at most 32 inputs of a row            constexpr_blockwise_shift_scale
    palette4  16 values per group of at most 8 rows, by k-means            constexpr_lut_to_dense

The scales are those of export/quantize.py, which minimise the squared error; coremltools would take them from the extremes
alone. A block or group is the largest divisor of the axis below the limit, as Core ML demands. Routers, norms and tables
stay float16: a router decides which experts count. Apple's documents name int8, fp16 and palettes for the Neural Engine,
blocks of int4 for the GPU.

The pass finds a weight by its values, not by its name, so that it works in every frontend (ExecuTorch's, too), and a
weight that the frontend changed or dropped is an error instead of a model that is silently not compressed.

Axes    N output rows, K input columns, G groups, n values of a group.
Errors  RuntimeError if a weight was not found in the program.
"""

import hashlib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from export.quantize import finite, quantize_weight

QUANTS = ("fp16", "int8", "int4", "palette4")
BLOCK, PALETTE_ROWS, PALETTE = 32, 8, 16
KMEANS_STEPS = 60
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Compressed:
    """data has the weight's shape; scale, or table [G, 1, ..., 16, 1], says what its integers mean."""

    data: Tensor
    scale: Tensor | None = None
    table: Tensor | None = None

    def dense(self) -> Tensor:
        """What Core ML decompresses: float16 arithmetic, returned as float32."""
        if self.table is not None:
            groups = self.table.shape[0]
            index = self.data.reshape(groups, -1).long()
            return self.table.reshape(groups, PALETTE).gather(1, index).reshape(self.data.shape).float()
        scale = self.scale
        for axis, (whole, blocks) in enumerate(zip(self.data.shape, scale.shape)):
            scale = scale.repeat_interleave(whole // blocks, dim=axis)
        return (self.data.float() * scale.float()).half().float()


def divisor(size: int, limit: int) -> int:
    """Largest divisor of size that is at most limit."""
    return next(n for n in range(min(size, limit), 0, -1) if size % n == 0)


def representable(weight: Tensor) -> Tensor:
    """The weight in float32. Raises ValueError for values that are not finite or too large for float16."""
    weight = finite(weight.detach().float())
    if weight.abs().max() > LARGEST_HALF:
        raise ValueError("a weight is too large for float16; the checkpoint is damaged")
    return weight


def compress(weight: Tensor, quant: str) -> Compressed:
    """One matrix [N, K], or one per head [H, K, N] as it stands on the right of a product.

    Raises ValueError for values that are not finite or too large for float16.
    """
    weight = representable(weight)
    if quant == "palette4":
        return _palette(weight)
    inputs_last = weight if weight.dim() == 2 else weight.transpose(1, 2)
    width = inputs_last.shape[-1]
    block = width if quant == "int8" else divisor(width, BLOCK)
    quantized = quantize_weight(inputs_last.reshape(-1, block), quant)
    data = quantized.values_NK.reshape(inputs_last.shape)
    scale = quantized.scales_NG.reshape(*inputs_last.shape[:-1], width // block)
    if weight.dim() == 3:
        data, scale = data.transpose(1, 2), scale.transpose(1, 2)
    return Compressed(data.contiguous(), scale=scale.contiguous())


def _palette(weight: Tensor) -> Compressed:
    rows = divisor(weight.shape[0], PALETTE_ROWS) if weight.dim() == 2 else 1
    groups = weight.shape[0] // rows
    index, table = kmeans(weight.reshape(groups, -1))
    return Compressed(index.reshape(weight.shape), table=table.reshape(groups, *[1] * (weight.dim() - 1), PALETTE, 1))


def kmeans(values_Gn: Tensor) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm for every group: (index uint8 [G, n], centres float16 [G, 16], ascending).

    On sorted values a cluster is a range, so that a step costs two look-ups in prefix sums.
    """
    values = values_Gn.double()
    groups, n = values.shape
    ordered = values.sort(dim=1)[0].contiguous()
    sums = torch.cat([values.new_zeros(groups, 1), ordered.cumsum(dim=1)], dim=1)
    share = (torch.arange(PALETTE) + 0.5) / PALETTE
    quantiles = ordered[:, (share * n).long().clamp(max=n - 1)]
    even = torch.lerp(ordered[:, :1], ordered[:, -1:], share.double())
    centres = (quantiles + even) / 2  # the best centres are denser where values are, but less than the values
    for _ in range(KMEANS_STEPS):
        middle = (centres[:, 1:] + centres[:, :-1]) / 2
        border = torch.searchsorted(ordered, middle.contiguous())
        border = torch.cat([border.new_zeros(groups, 1), border, border.new_full((groups, 1), n)], dim=1)
        count = border.diff(dim=1)
        mean = sums.gather(1, border).diff(dim=1) / count.clamp(min=1)
        centres = torch.where(count > 0, mean, centres).sort(dim=1)[0]
    table = centres.half()
    middle = (table[:, 1:].double() + table[:, :-1].double()) / 2
    index = torch.searchsorted(middle.contiguous(), values.contiguous()).to(torch.uint8)
    return index, table


# ---- the graph pass ----

def _key(values: np.ndarray) -> tuple:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values)).digest()


class Compression:
    """The weights of a model that are to be compressed. `found` grows while programs are rewritten."""

    def __init__(self, weights: dict[str, Tensor], quant: str, on_weight=lambda elements: None) -> None:
        self.quant, self.on_weight, self.found = quant, on_weight, set()
        self._compressed: dict[str, Compressed] = {}
        self._weights = weights
        self._names = {} if quant == "fp16" else {
            _key(weight.detach().half().numpy()): name for name, weight in weights.items()}
        self._shapes = {shape for shape, _ in self._names}

    def of(self, name: str) -> Compressed:
        if name not in self._compressed:
            self._compressed[name] = compress(self._weights[name], self.quant)
            self.on_weight(self._weights[name].numel())
        return self._compressed[name]

    def find(self, values) -> Compressed | None:
        """What stands for a constant of a program, None if it stays as it is."""
        if not isinstance(values, np.ndarray) or values.dtype != np.float16 or values.shape not in self._shapes:
            return None
        name = self._names.get(_key(values))
        if name is None:
            return None
        self.found.add(name)
        return self.of(name)

    def require_all(self) -> None:
        missing = sorted(set(self._names.values()) - self.found)
        if missing:
            raise RuntimeError(f"{len(missing)} weights were not compressed, the first is {missing[0]}: the converter changed "
                               "or dropped them; adapt export/coreml_decoder.py")


_current: ContextVar[Compression | None] = ContextVar("compression", default=None)
PASS_NAME = "blockffn::compress_weights"


@contextmanager
def compressing(compression: Compression):
    """Conversions meanwhile that run the pass PASS_NAME compress these weights; all of them, or RuntimeError."""
    _register_pass()
    token = _current.set(compression)
    try:
        yield
    finally:
        _current.reset(token)
    compression.require_all()


def pass_names() -> list[str]:
    """coremltools' default passes, then ours: it sees weights as float16 and equal ones as one."""
    import coremltools as ct

    _register_pass()
    return [*ct.PassPipeline.DEFAULT.passes, PASS_NAME]


def _register_pass() -> None:
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if PASS_NAME in PASS_REGISTRY:
        return

    @block_context_manager
    def rewrite(block) -> None:
        compression = _current.get()
        for op in list(block.operations) if compression is not None else ():
            compressed = compression.find(op.outputs[0].val) if op.op_type == "const" else None
            if compressed is None:
                continue
            data, name = compressed.data.numpy(), op.outputs[0].name
            if compressed.table is not None:
                new = mb.constexpr_lut_to_dense(indices=data.astype(types.np_uint4_dtype),
                                                lut=compressed.table.numpy(), before_op=op, name=name)
            else:
                data = data.astype(types.np_int4_dtype) if compression.quant == "int4" else data
                new = mb.constexpr_blockwise_shift_scale(data=data, scale=compressed.scale.numpy(), before_op=op, name=name)
            block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=new, force_replace=True)
            block.remove_ops([op])

    @register_pass(namespace="blockffn")
    class compress_weights(AbstractGraphPass):  # noqa: N801  its name in the registry
        def apply(self, prog) -> None:
            for function in prog.functions.values():
                rewrite(function)
