"""Fixtures of the ONNX tests: modules written once per test process, and exported checkpoints."""

import pytest


@pytest.fixture(scope="session")
def written(tmp_path_factory, backend):
    """written(key, module, example) -> (path of its .onnx, how often each operator occurs)."""
    from tests.onnx.models import write

    made = {}

    def make(key, module, example):
        if key not in made:
            path = tmp_path_factory.mktemp("models") / "model.onnx"
            made[key] = path, write(module, example, path)
        return made[key]

    return make
