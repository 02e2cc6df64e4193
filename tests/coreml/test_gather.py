"""How many experts are gathered: measured on text, or asked for."""

import pytest
import torch

from export import coreml_gather
from training.checkpoint import open_checkpoint
from training.model import CausalLM


def test_unions_are_those_of_every_whole_chunk(tiny_checkpoint):
    model = CausalLM.from_checkpoint(open_checkpoint(tiny_checkpoint()))
    windows = [torch.randint(320, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (11, 3, 2)]
    for chunk in (1, 3):
        want = []
        for ids in windows:
            raw = model(torch.tensor([ids])).raw_scores
            for start in range(0, len(ids) - chunk + 1, chunk):
                want.append([len({e for t in range(start, start + chunk) for e in range(6) if layer[0, t, e] > 0}) for layer in raw])
        assert coreml_gather.unions(model, windows, chunk).tolist() == want
    with pytest.raises(ValueError, match="no 12 tokens in a row.*--heldout"):
        coreml_gather.unions(model, windows, 12)


@pytest.mark.parametrize("overflow", [0.0, 0.02, 0.3, 1.0])
def test_room_is_the_smallest_common_quantile(overflow):
    generator = torch.Generator().manual_seed(1)
    unions = torch.stack([torch.randint(low, high, (500,), generator=generator) for low, high in ((0, 5), (20, 70), (50, 64))], dim=1)
    columns = [sorted(column) for column in unions.T.tolist()]

    def overflows(room):
        return sum(any(u > r for u, r in zip(row, room)) for row in unions.tolist()) / len(unions)

    candidates = [[column[i] for column in columns] for i in range(500)]
    want = next(room for room in candidates if overflows(room) <= overflow)
    assert coreml_gather.room(unions, overflow) == [max(n, 1) for n in want]


def test_numbers_that_make_no_sense_are_refused():
    assert coreml_gather.parse("auto") is None and coreml_gather.parse("3,4") == [3, 4]
    assert coreml_gather.per_layer([5], 3, 6) == [5, 5, 5]
    for text in ("", "many", "3;4", "1.5"):
        with pytest.raises(ValueError, match="give one number, one for each layer"):
            coreml_gather.parse(text)
    with pytest.raises(ValueError, match="names 2 numbers, the model has 3 layers"):
        coreml_gather.per_layer([5, 5], 3, 6)
    for number in (0, 7, -1):
        with pytest.raises(ValueError, match=f"{number} experts cannot be gathered from 6"):
            coreml_gather.per_layer([1, number], 2, 6)
