"""The FFN benchmark on a toy size: its routing, its gate against wrong peers, its arithmetic, its one command."""

import json
import math
from importlib import metadata

import numpy as np
import pytest
import torch

from benchmarks import ffn, report, worker
from benchmarks.layers import SIZES, TOKENS, make_inputs, sparse_weights, union_share
from benchmarks.peers import PEERS, build, error_of
from training.sparsity import chunk_level_sparsity, token_level_sparsity

TOY = SIZES["toy"]
NUMBER = (int, float)
ROW = {
    "size": str, "threads": int, "tokens": int, "peer": str, "kind": str, "precision": str, "samples": int,
    "cpu_ns": dict, "wall_ns": dict, "time_ns": NUMBER, "read_share": NUMBER, "gbs": NUMBER, "error": NUMBER,
    "layers": int, "noisy": bool, "load_average": NUMBER, "steal_share": NUMBER, "peak_gbs": NUMBER,
    "process_medians_ns": list,
}


class Memory:
    """Stands in for the buffers of measure.Memory."""

    sample_bytes = 1

    def evict(self):
        pass

    def sample(self, streams, threads, mapped):
        pass


def time_cell(loaded, inputs, tokens=5):
    events = []
    job = {"threads": 1, "process": 0, "rounds": 2, "least": 1, "seconds": 0}
    worker.time_cell(job, TOY, inputs, loaded, Memory(), tokens, lambda **e: events.append(e))
    return events


def load(name, inputs, tmp_path):
    peer, path = PEERS[name], tmp_path / name
    if missing := peer.missing():
        pytest.skip(f"{name} needs {', '.join(missing)}")
    if "qmoe" in name and tuple(map(int, metadata.version("onnxruntime").split(".")[:2])) < (1, 32):
        pytest.skip(f"{name} needs onnxruntime 1.32, which has no wheel for Python 3.10")
    build(peer, TOY, inputs, path)
    return peer.load(path, TOY, inputs, peer.layers(TOY), 1), np.load(f"{path}.npy")


@pytest.mark.parametrize("name", ["0.1B", "1.2B", "2.8B"])
def test_routing_has_the_stated_sparsity(name):
    inputs, experts = make_inputs(SIZES[name]), SIZES[name].experts
    for active_TE in inputs.active_VTE:
        scores_TE = torch.from_numpy(active_TE.astype(float))
        assert abs(token_level_sparsity(scores_TE) - 0.80) <= 0.5 / experts
        assert abs(chunk_level_sparsity(scores_TE, 8) - 0.70) <= 1 / experts
    for tokens in range(1, TOKENS + 1):  # every beginning of a chunk needs as many experts as the formula says
        assert np.all(np.abs(np.array(inputs.union(tokens)) - experts * union_share(tokens)) <= 1)
    assert union_share(1) == pytest.approx(0.2) and union_share(8) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["0.1B", "1.2B"])
def test_the_router_yields_the_prescribed_experts(name):
    size = SIZES[name]
    inputs = make_inputs(size)
    rng = np.random.default_rng(0)
    order = rng.permutation(size.experts)
    router_ED = inputs.directions_ED[order]
    for x_TD, active_TE in zip(inputs.x_VTD, inputs.active_VTE):
        scores_TE = x_TD.double() @ router_ED.double().T
        assert np.array_equal((scores_TE > 0).numpy(), active_TE[:, order])
        # Rounding of x to 127 steps and of the router to 127 steps: both sums of D independent errors.
        steps = x_TD.abs().amax(dim=1, keepdim=True) / 127, router_ED.abs().amax(dim=1) / 127
        sigma = (steps[0] ** 2 + steps[1] ** 2 * x_TD.square().sum(dim=1, keepdim=True)).sqrt() / math.sqrt(12)
        assert (scores_TE.abs() > 5 * sigma).all(), "quantization could turn an expert on or off"


def test_layers_route_differently():
    inputs = make_inputs(TOY)
    first, second = (sparse_weights(TOY, inputs, layer) for layer in (0, 1))
    assert not torch.equal(first["router"], second["router"]) and not torch.equal(first["up"], second["up"])


@pytest.mark.parametrize("name", [n for n in PEERS if n.startswith(("ort", "torch"))])
def test_peers_compute_the_layer(name, tmp_path):
    inputs = make_inputs(TOY)
    run, expected = load(name, inputs, tmp_path)
    for tokens in (1, 5, 64):
        assert worker.check(PEERS[name], run, expected, inputs, tokens) <= PEERS[name].tolerance


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_our_operator_in_onnx_runtime_reads_the_prescribed_experts(precision, tmp_path, backend):
    inputs, peer = make_inputs(TOY), PEERS[f"ort-blockffn-{precision}"]
    run, _ = load(peer.name, inputs, tmp_path)
    for tokens in (1, 5, 64):
        worker.check_reads(peer, run, TOY, inputs, tokens)
    stats = run.take_stats()
    run.take_stats = lambda: stats
    with pytest.raises(ValueError, match="experts; the routing prescribes"):
        worker.check_reads(peer, run, TOY, inputs, 64)


def relu_for_silu(run, expected):
    return lambda x: np.maximum(run(x), 0)


def scaled(run, expected):
    return lambda x: 1.1 * run(x)


def one_wrong_token(run, expected):
    def planted(x):
        y = run(x).copy()
        y[-1] = y[0]
        return y

    return planted


def nan(run, expected):
    def planted(x):
        y = run(x).copy()
        y[len(y) // 2, 3] = np.nan
        return y

    return planted


def zeros(run, expected):
    return lambda x: 0 * x


def raises(run, expected):
    def planted(x):
        raise RuntimeError("planted")

    return planted


@pytest.mark.parametrize("fault", [relu_for_silu, scaled, one_wrong_token, nan, zeros, raises])
def test_a_wrong_peer_is_not_timed(fault, tmp_path):
    inputs = make_inputs(TOY)
    run, expected = load("torch-bf16", inputs, tmp_path)  # the peer with the widest tolerance among those always there
    events = time_cell({"torch-fp32": (run, expected, run)}, inputs)
    assert [e["event"] for e in events if e.get("peer") == "torch-fp32"][0] == "wrong"  # bfloat16 is not float32
    events = time_cell({"torch-bf16": (run, expected, run)}, inputs)
    assert [e["event"] for e in events if e.get("peer") == "torch-bf16"] == ["right", "sample"]
    events = time_cell({"torch-bf16": (fault(run, expected), expected, run)}, inputs)
    assert [e["event"] for e in events if e.get("peer") == "torch-bf16"] == ["wrong"]


def test_zero_is_wrong_only_where_something_is_expected():
    zero, one = np.zeros((2, 4)), np.ones((2, 4))
    assert error_of(zero, zero) == 0
    assert error_of(one, zero) == math.inf
    assert error_of(zero, one) == 1
    assert math.isnan(error_of(np.full((2, 4), np.nan), one))


def event(kind, peer=None, tokens=1, **more):
    return {"event": kind, "size": "toy", "threads": 1, "process": 0, "tokens": tokens, "peer": peer, **more}


def right(peer, layers, read_bytes):
    return event("right", peer, layers=layers, read_bytes_per_layer=read_bytes, read_share=1.0, error=0.0)


def sample(peer, cpu, wall):
    return event("sample", peer, cpu_ns=cpu, wall_ns=wall)


def test_rows_are_medians_per_layer_and_ratios_to_the_fastest():
    events = [
        right("blockffn-int4", 2, 400), right("xnnpack-8da4w", 1, 900), right("ort-nbits4-g128", 1, 800),
        right("xnnpack-8da8w", 1, 900), right("ort-qmoe4", 4, 500), right("read-1-stream", 1, 6000),
        *[sample("blockffn-int4", cpu, 10 * cpu) for cpu in (200, 220, 180, 200, 205)],
        *[sample("xnnpack-8da4w", cpu, cpu) for cpu in (700, 690, 710)],
        *[sample("ort-nbits4-g128", cpu, cpu) for cpu in (300, 600, 1000)],
        sample("xnnpack-8da8w", 50, 50), sample("ort-qmoe4", 800, 800), sample("read-1-stream", 1000, 1000),
        event("cell", load_average=1.0, steal_share=0.0), right("blockffn-int4", 2, 400) | {"tokens": 2},
        sample("blockffn-int4", 1, 1) | {"tokens": 2},  # of a cell that did not end
    ]
    rows = {r["peer"]: r for r in report.rows(events)}
    assert len(rows) == 6
    ours = rows["blockffn-int4"]
    assert ours["cpu_ns"]["p50"] == 100 and ours["wall_ns"]["p50"] == 1000 and ours["time_ns"] == 100
    assert ours["gbs"] == 4 and ours["peak_gbs"] == 6
    assert ours["fastest_dense"] == "ort-nbits4-g128" and ours["ratio"] == 6 and ours["ratio_qmoe"] == 2
    assert ours["ratio_cpu"] == 6
    assert not ours["noisy"] and rows["ort-nbits4-g128"]["noisy"]
    other = [e | {"process": 1} for e in (right("xnnpack-8da4w", 1, 900), sample("xnnpack-8da4w", 150, 150),
                                          right("ort-qmoe4", 4, 500), sample("ort-qmoe4", 2000, 2000),
                                          event("cell", load_average=1.0, steal_share=0.0))]
    best = {r["peer"]: r for r in report.rows([*events, *other])}  # of the processes, for each peer
    assert best["xnnpack-8da4w"]["process_medians_ns"] == [700, 150] and best["xnnpack-8da4w"]["time_ns"] == 150
    assert best["ort-qmoe4"]["time_ns"] == 200 and best["blockffn-int4"]["ratio"] == 1.5
    again = [*events, right("blockffn-int4", 2, 400) | {"tokens": 2}, sample("blockffn-int4", 7, 7) | {"tokens": 2},
             event("cell", tokens=2, load_average=1.0, steal_share=0.5)]
    (late,) = [r for r in report.rows(again) if r["tokens"] == 2]
    assert late["samples"] == 1 and late["noisy"] and late["ratio"] is None


@pytest.mark.timeout(300)
def test_one_command(backend, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BLOCKFFN_LIB", str(backend.path))
    out = tmp_path / "out"
    peers = ["blockffn-int4", "torch-fp32", "ort-nbits4-g128"]
    command = [*"--sizes toy --tokens 1 8 --threads 1 --rounds 3 --least 2 --seconds 0 --processes 1 --out".split(), str(out),
               "--peers", *peers]
    assert ffn.main(command) == 0, (out / "worker.log").read_text()
    printed = capsys.readouterr().out
    summary = json.loads(printed.splitlines()[-1])
    result = json.loads((out / "results.json").read_text())
    present = [p for p in peers if not PEERS[p].missing()] + list(worker.READS)
    assert sorted(result["skipped"]) == sorted(set(peers) - set(present)) and not result["problems"]
    assert result["kernels"] == backend.kernels
    assert summary["rows"] == len(result["rows"]) == 2 * len(present)
    for row in result["rows"]:
        assert all(isinstance(row[key], kind) for key, kind in ROW.items()), row
        assert row["samples"] == 2 and row["peak_gbs"] > 0
        assert 0 < row["cpu_ns"]["p10"] <= row["cpu_ns"]["p50"] <= row["cpu_ns"]["p90"]
    assert "blockffn-int4" in (out / "table.md").read_text()
    assert (out / "ffn.png").read_bytes().startswith(b"\x89PNG")

    def no_worker(*_):
        raise AssertionError("everything was measured already")

    raw = (out / "raw.jsonl").read_text()
    monkeypatch.setattr(ffn, "work", no_worker)
    (out / "raw.jsonl").write_text(raw + '{"event": "sam')  # interrupted while writing
    assert ffn.main(command) == 0
    assert (out / "raw.jsonl").read_text() == raw
    assert ffn.main([*command, "--rounds", "4"]) == 1
    assert "rounds" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--tokens", "65"], ["--peers", "nobody"], ["--sizes", "9B"], ["--threads", "0"],
                                 ["--rounds", "1"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as exit_:
        ffn.main(bad)
    assert exit_.value.code == 2
