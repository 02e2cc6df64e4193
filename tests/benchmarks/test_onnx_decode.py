"""The whole-model benchmark in ONNX Runtime: its dense twin, its models, its figures."""

import pytest

from benchmarks import onnx_decode
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
    worker = onnx_decode.Worker(onnx_decode.build(args)["qmoe-int8"], True, args)
    got = worker.ask(prompt=[1, 2, 3], tokens=[4, 5])
    worker.close()
    assert worker.loaded["load_s"] > 0 and [len(v) for v in got.values()] == [2, 2] and min(got["wall_ns"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["qmoe-int8"]


def row(flavour, ms, load, anonymous):
    spread = {"p10": ms, "p50": ms, "p90": 2 * ms}
    return {"flavour": flavour, "wall_ms": spread, "cpu_ms": spread, "load_s": load, "anonymous_bytes": anonymous,
            "tokens_per_s": 1e3 / ms, "noisy": True, "file_bytes": 10**6}


def test_ratios_are_multiples_of_ours_and_noise_is_marked():
    rows = [row(f"{kind}-{quant}", *values) for quant in ("int8", "int4", "fp32") for kind, values in
            (("blockffn", (2, 0.1, 10**6)), ("qmoe", (5, 1.0, 10**7)), ("dense", (8, 0.5, 3 * 10**7)))]
    ratios = onnx_decode.ratios(rows)
    assert ratios["qmoe-int8 / blockffn-int8"] == {"time": 2.5, "cpu_time": 2.5, "load": 10.0, "anonymous": 10.0}
    assert ratios["dense-fp32 / blockffn-int4"]["anonymous"] == 30.0
    assert "5.000~" in onnx_decode.table(rows, ratios)


@pytest.mark.parametrize("bad", [["--rounds", "0"], ["--checkpoint", "/nowhere"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as stop:
        onnx_decode.arguments(bad)
    assert stop.value.code == 2
