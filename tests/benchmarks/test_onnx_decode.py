"""The whole-model benchmark in ONNX Runtime: its dense twin, its models, its figures."""

import shutil

import pytest

from benchmarks import onnx_decode, onnx_load
from export.decoder import Decoder
from training.checkpoint import open_checkpoint


def parameters(source):
    return sum(p.numel() for name, p in Decoder(source, "fp32", 64).named_parameters() if ".mlp." in name and "norm" not in name)


def test_the_dense_twin_has_as_many_weights(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint(num_experts=400))
    assert abs(parameters(onnx_decode.dense_twin(checkpoint)) / parameters(checkpoint) - 1) < 0.02


def test_a_process_serves_times_of_every_token(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_decode, "CONTEXT", 128)
    monkeypatch.setattr(onnx_decode, "FLAVOURS", {"qmoe-int8": ("qmoe", "int8")})
    args = onnx_decode.arguments(["--checkpoint", str(tiny_checkpoint()), "--models", str(tmp_path)])
    paths = onnx_decode.build(args)
    worker = onnx_decode.Worker(paths["qmoe-int8"], True, args)
    got = worker.ask(prompt=[1, 2, 3], tokens=[4, 5])
    worker.close()
    assert [len(v) for v in got.values()] == [2, 2] and min(got["wall_ns"]) > 0
    load = onnx_load.measure(paths, onnx_decode.plain_flavours(), threads=1, loads=2)["qmoe-int8"]
    assert load["loads"] == 2 and load["anonymous_bytes"] > 0
    assert load["ms"] >= load["min_ms"] > load["session_ms"] / 2 > 0 and load["again_ms"] >= load["again_min_ms"] > 0
    assert [path.name.rpartition("-")[0] for path in tmp_path.iterdir()] == ["qmoe-int8"]
    assert onnx_decode.build(args) == paths
    other = shutil.copytree(args.checkpoint, tmp_path.with_name("other"))
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    assert onnx_decode.models_key(other) != onnx_decode.models_key(args.checkpoint) in str(paths["qmoe-int8"])


def loaded(ms, anonymous, **changes):
    """What one process of a flavour answers."""
    load = {"ms": ms, "cpu_ms": ms, "anonymous_bytes": anonymous, "library_ms": 0, "session_ms": ms, "rest_ms": 0, "first_ms": 0}
    return {"empty_ms": 1, "fresh": load | changes, "again": [load | {"ms": ms / 2}, load]}


def row(flavour, ms, load, anonymous):
    spread = {"p10": ms, "p50": ms, "p90": 2 * ms}
    return {"flavour": flavour, "wall_ms": spread, "cpu_ms": spread, "load": onnx_load.summary([loaded(load, anonymous)]),
            "tokens_per_s": 1e3 / ms, "noisy": True, "file_bytes": 10**6}


def test_ratios_are_multiples_of_ours_and_noise_is_marked():
    rows = [row(f"{kind}-{quant}", *values) for quant in ("int8", "int4", "fp32") for kind, values in
            (("blockffn", (2, 100, 10**6)), ("qmoe", (5, 1000, 10**7)), ("dense", (8, 500, 3 * 10**7)))]
    ratios = onnx_decode.ratios(rows)
    assert ratios["qmoe-int8 / blockffn-int8"] == {"time": 2.5, "cpu_time": 2.5, "load": 10.0, "anonymous": 10.0}
    assert ratios["dense-fp32 / blockffn-int4"]["anonymous"] == 30.0
    assert "5.000~" in onnx_decode.table(rows, ratios)


def test_loads_are_medians_of_processes_and_the_least():
    found = onnx_load.summary([loaded(4, 10), loaded(9, 30, cpu_ms=1), loaded(5, 20)])
    assert (found["loads"], found["ms"], found["min_ms"], found["anonymous_bytes"]) == (3, 5, 4, 20)
    assert (found["cpu_ms"], found["min_cpu_ms"], found["again_ms"], found["again_min_ms"]) == (4, 1, 4.25, 2)


@pytest.mark.parametrize("bad", [["--rounds", "0"], ["--loads", "0"], ["--checkpoint", "/nowhere"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as stop:
        onnx_decode.arguments(bad)
    assert stop.value.code == 2
