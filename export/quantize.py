"""Weight and activation quantization: the numbers, not their layout (pack.py) nor their arithmetic (ops.py).

int8   symmetric, one scale per output row, values -127..127
int4   symmetric, one scale per group of 32 input columns, values -8..7
Both   scales are stored as float16, and weights are quantized with the rounded scale
Activations of quantized layers are quantized per row while running: q = round(x * (127 / max|x|)),
zero where max|x| < SMALLEST_PEAK.

Axes   N output rows, K input columns, G groups of 32 columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32
SMALLEST_PEAK = 1e-36  # 127 / peak must stay finite
BLOCK_ELEMENTS = 1 << 17  # quantized at once: intermediate results stay in the cache, 4x faster than whole matrices


def router_quant(quant: str) -> str:
    """Precision of a router in a layer of precision `quant`.

    A router decides which experts a token reads, so it keeps at least 8 bits.
    """
    return "fp32" if quant == "fp32" else "int8"


@dataclass(frozen=True)
class QuantizedWeight:
    """values_NK int8 (int4 in -8..7); scales_NG float16 with G = 1 for int8, ceil(K/group) for int4."""

    values_NK: Tensor
    scales_NG: Tensor
    group: int = GROUP

    def dequantize(self) -> Tensor:
        """float64 [N, K]: exact products of values and scales."""
        n, k = self.values_NK.shape
        scales_NK = self.scales_NG.double()
        if self.scales_NG.shape[1] > 1:
            scales_NK = scales_NK.repeat_interleave(self.group, dim=1)[:, :k]
        return self.values_NK.double() * scales_NK


def finite(weight: Tensor) -> Tensor:
    """The weight itself. Raises ValueError if it holds NaN or infinity."""
    if not torch.isfinite(weight).all():
        raise ValueError("a weight is NaN or infinite; the checkpoint is damaged")
    return weight


def quantize_weight(weight_NK: Tensor, quant: str, group: int = GROUP) -> QuantizedWeight:
    """Quantizes one matrix; our formats know no other group. ValueError for NaN, infinity or values beyond float16 scales."""
    rows = max(BLOCK_ELEMENTS // weight_NK.shape[1], 1)
    if weight_NK.shape[0] > rows:
        blocks = [quantize_weight(block, quant, group) for block in weight_NK.split(rows)]
        return QuantizedWeight(torch.cat([b.values_NK for b in blocks]), torch.cat([b.scales_NG for b in blocks]), group)
    weight_NK = finite(weight_NK.float())
    if quant == "int8":
        scales = weight_NK.abs().amax(dim=1, keepdim=True) / 127
        return _round_to(weight_NK[:, None, :], scales, -127, 127)
    if quant == "int4":
        n, k = weight_NK.shape
        groups = -(-k // group)
        padded = torch.nn.functional.pad(weight_NK, (0, groups * group - k)).view(n, groups, group)
        quantized = _round_to(padded, _best_int4_scales(padded), -8, 7)
        return QuantizedWeight(quantized.values_NK[:, :k].contiguous(), quantized.scales_NG, group)
    raise ValueError(f"unknown quantization {quant!r}; choose int8 or int4")


def _round_to(weight_NGK: Tensor, scales_NG: Tensor, low: int, high: int) -> QuantizedWeight:
    scales_NG = scales_NG.half()
    if not torch.isfinite(scales_NG).all():
        raise ValueError("a weight is too large for float16 scales; the checkpoint is damaged")
    scale = scales_NG.float()[:, :, None]
    # A group whose scale rounds to zero is zero: its values are below 1e-7.
    values = torch.where(scale != 0, weight_NGK / scale, torch.zeros(())).round().clamp(low, high).to(torch.int8)
    return QuantizedWeight(values.flatten(1), scales_NG)


def _best_int4_scales(weight_NGK: Tensor) -> Tensor:
    """Scales [N, G] with the least squared error on a small grid.

    The signed element of largest magnitude goes to -8, the end with one step more; shrinking the
    scale clips it a little and refines the rest.
    """
    peak = torch.gather(weight_NGK, 2, weight_NGK.abs().argmax(dim=2, keepdim=True)).squeeze(2)
    best_scale, best_error = None, None
    for steps in torch.arange(7.0, 9.01, 0.25).tolist():
        scale = (peak / -steps).half().float()
        safe = torch.where(scale != 0, scale, torch.ones(()))[:, :, None]
        restored = (weight_NGK / safe).round().clamp(-8, 7) * scale[:, :, None]
        error = (restored - weight_NGK).square().sum(dim=2)
        if best_scale is None:
            best_scale, best_error = scale, error
        else:
            better = error < best_error
            best_scale = torch.where(better, scale, best_scale)
            best_error = torch.where(better, error, best_error)
    return best_scale


def quantize_activation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows x [..., K] -> (q float32 integers [..., K], scale float32 [..., 1]); x ~ q * scale."""
    peak = x.abs().amax(dim=-1, keepdim=True)
    inverse = torch.where(peak < SMALLEST_PEAK, torch.zeros(()), 127.0 / peak)
    return (x * inverse).round(), peak / 127.0
