"""Fixture of the delegate's tests: programs lowered once per test process."""

import pytest


@pytest.fixture(scope="session")
def lowered(tmp_path_factory, backend):
    """lowered(key, module, example) -> (path of its .pte, how often each op was delegated)."""
    from tests.delegate.programs import lower

    made = {}

    def make(key, module, example):
        if key not in made:
            path = tmp_path_factory.mktemp("programs") / "program.pte"
            made[key] = path, lower(module, example, path)
        return made[key]

    return make
