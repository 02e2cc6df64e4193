"""Room for the experts that a chunk uses: what `--ffn gather` gathers, layer by layer.

The layers of a model are not equally sparse, and a chunk has to be computed again by the dense function where a single
layer has too few places. So each layer gets its own number: the same quantile of what it needed on held-out text, the
smallest at which all layers together have room for all but OVERFLOW of the chunks.

Axes    N chunks, L layers, E experts, S tokens of a window.   Units  experts.
Errors  ValueError for numbers that do not fit the model; each names the flag.
"""

import torch
from torch import Tensor

OVERFLOW = 0.02  # share of the chunks of held-out text that may need the dense function
MEASURED = "auto"


def parse(text: str) -> list[int] | None:
    """Of --gather-experts: one number, one per layer, or MEASURED (None)."""
    if text == MEASURED:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--gather-experts {text}: give one number, one for each layer with commas between, or {MEASURED}") from None


def per_layer(numbers: list[int], layers: int, experts: int) -> list[int]:
    """One number for each layer."""
    if len(numbers) == 1:
        numbers = numbers * layers
    if len(numbers) != layers:
        raise ValueError(f"--gather-experts names {len(numbers)} numbers, the model has {layers} layers; give one for each, or one")
    for number in numbers:
        if not 1 <= number <= experts:
            raise ValueError(f"{number} experts cannot be gathered from {experts}; choose 1 to {experts} with --gather-experts")
    return numbers


@torch.no_grad()
def unions(model, windows: list[list[int]], chunk: int) -> Tensor:
    """Experts that every chunk of `chunk` tokens uses, int64 [N, L]; incomplete chunks at the ends are left out.

    model: training's CausalLM.
    """
    found = []
    for ids in windows:
        used_LSE = torch.stack([raw_BSE[0] > 0 for raw_BSE in model(torch.tensor([ids])).raw_scores])
        whole = len(ids) // chunk * chunk
        found.append(used_LSE[:, :whole].unflatten(1, (-1, chunk)).any(dim=2).sum(dim=-1).T)
    found_NL = torch.cat(found)
    if not len(found_NL):
        raise ValueError(f"the held-out text has no {chunk} tokens in a row to count experts on; name a longer --heldout, more "
                         "--heldout-tokens, or numbers with --gather-experts")
    return found_NL


def room(unions_NL: Tensor, overflow: float = OVERFLOW) -> list[int]:
    """The smallest numbers, one quantile for all layers, that all layers of 1 - overflow of the chunks fit into."""
    ordered_NL = unions_NL.sort(dim=0)[0]
    low, high = 0, len(ordered_NL) - 1  # of the quantile, as a row of the sorted unions; the last one fits all
    while low < high:
        middle = (low + high) // 2
        fits = (unions_NL <= ordered_NL[middle]).all(dim=1).double().mean()
        low, high = (low, middle) if fits >= 1 - overflow else (middle + 1, high)
    return ordered_NL[low].clamp(min=1).tolist()
