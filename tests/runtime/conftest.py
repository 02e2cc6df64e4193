"""Programs of tiny random models, exported once per test process."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_pte(tmp_path_factory, tiny_checkpoint, backend):
    """Factory: tiny_pte(quant="fp32", max_context=160, **config) -> Path of a .pte. Do not change the file, copy it."""
    from export.decoder import Decoder
    from export.lower import lower
    from training.checkpoint import open_checkpoint

    made: dict[str, Path] = {}

    def make(quant: str = "fp32", max_context: int = 160, **config) -> Path:
        key = json.dumps([quant, max_context, config], sort_keys=True)
        if key not in made:
            path = tmp_path_factory.mktemp("program") / "model.pte"
            lower(Decoder(open_checkpoint(tiny_checkpoint(**config)), quant, max_context), str(path))
            made[key] = path
        return made[key]

    return make
