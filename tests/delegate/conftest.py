"""Fixtures of the delegate's tests: programs lowered once per test process, and the kernels to run them with."""

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


@pytest.fixture(params=["avx512_vnni", "avx_vnni", "avx2", "portable"])
def kernels(request, backend, monkeypatch):
    """Every program that the test loads runs on these kernels."""
    if not backend.variants.get(request.param):
        pytest.skip(f"this processor cannot run {request.param}")
    monkeypatch.setenv("BLOCKFFN_KERNELS", request.param)
    assert backend.kernels == request.param
    return request.param
