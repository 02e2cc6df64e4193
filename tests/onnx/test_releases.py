"""One .onnx and one operator library on several releases of ONNX Runtime, each in a process of its own."""

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from export.decoder import Decoder
from export.onnx_graph import write_onnx
from export.onnx_stock import write_stock
from tests.onnx.releases import ROOT, fetch
from training.checkpoint import open_checkpoint

NEWEST = onnxruntime.__version__
OLD, TOO_OLD = ("1.21.1", "1.26.0"), "1.20.1"
MODELS = {"mla-int8": ({}, "int8"),
          "gqa-int4": (dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False), "int4")}

# A chunk, a tree of three branches, a step behind one of them, then greedy steps over tokens not used yet. argv: model, "library", "alone" (the file without bodies) or "plain", output.
DRIVER = """
import sys
import numpy as np, onnxruntime
from runtime_delegates.onnx_model import OnnxModel
model = OnnxModel(sys.argv[1], threads=2, plain=sys.argv[2] == "plain")
assert "torch" not in sys.modules
row = lambda *x: np.array(x, dtype=np.int64)
run = lambda *chunk: [array.copy() for array in model.run_chunk(*chunk)]
keep = lambda *x: np.array(x + (-1,) * (64 - len(x)), dtype=np.int64)
out = [run(row(*range(5, 25))[None], row(*range(20)), row(0), row(*((2 << i) - 1 for i in range(20))), keep(), row(0)),
       run(row(7, 8, 9, 10, 11)[None], row(20, 21, 21, 22, 22), row(20), row(1, 3, 5, 11, 21), keep(), row(0)),
       run(row(12)[None], row(23), row(23), row(1), keep(0, 2, 4), row(0))]
tokens, n_past = [], 24
while len(tokens) < 24:
    logits = out[-1][0][0, -1].copy()
    logits[tokens] = -np.inf  # random weights repeat themselves
    tokens.append(int(logits.argmax()))
    out.append(run(row(tokens[-1])[None], row(n_past), row(n_past), row(1), keep(), row(0)))
    n_past += 1
logits, hidden = (np.concatenate([step[i][0] for step in out]) for i in (0, 1))
np.savez(sys.argv[3], logits=logits, hidden=hidden, tokens=tokens, version=onnxruntime.__version__,
         experts=model.take_stats().read_share or 0)
"""


@pytest.fixture(scope="module")
def models(tiny_checkpoint, backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, (options, quant) in MODELS.items():
        (folder / name).mkdir()
        write_onnx(Decoder(open_checkpoint(tiny_checkpoint(**options)), quant, 96), folder / name / "model.onnx")
    (folder / "qmoe-int8").mkdir()
    write_stock(Decoder(open_checkpoint(tiny_checkpoint()), "int8", 96), folder / "qmoe-int8" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    """run(release, name, kind) -> what DRIVER saved; the installed release runs once."""
    made, folder = {}, tmp_path_factory.mktemp("results")

    def call(release, name, kind="library"):
        if (release, name, kind) not in made:
            path = [str(ROOT)] if release == NEWEST else [str(fetch(release)), str(ROOT)]
            output = folder / f"{release}-{name}-{kind}.npz"
            file = models / name / ("model.library.onnx" if kind == "alone" else "model.onnx")
            done = subprocess.run([sys.executable, "-c", DRIVER, file, kind, output], text=True,
                                  capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(path)})
            assert done.returncode == 0, done.stderr
            made[release, name, kind] = dict(np.load(output))
            assert str(made[release, name, kind]["version"]) == release
        return made[release, name, kind]

    return call


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("release", OLD)
def test_the_library_gives_the_same_bits_in_every_release(run, release, name):
    want = run(NEWEST, name)
    assert np.isfinite(want["logits"]).all() and 0 < want["experts"] < 1
    for kind in ("library", "alone"):
        got = run(release, name, kind)
        for key in ("tokens", "logits", "hidden", "experts"):
            assert np.array_equal(got[key], want[key]), (kind, key)


@pytest.mark.parametrize("release", OLD)
def test_the_bodies_run_in_every_release(run, release):
    """Stock operators of different releases sum in different orders, so the logits are close, not equal."""
    want, got = run(NEWEST, "mla-int8"), run(release, "mla-int8", "plain")
    assert np.array_equal(got["tokens"], want["tokens"])
    bound = 0.02 * np.abs(want["logits"]).max(-1, keepdims=True)
    assert (np.abs(got["logits"] - want["logits"]) <= bound).all()


def test_stock_operators_run_from_1_26_on(run):
    want, got = run(NEWEST, "qmoe-int8", "plain"), run("1.26.0", "qmoe-int8", "plain")
    bound = 0.02 * np.abs(want["logits"]).max(-1, keepdims=True)
    assert (np.abs(got["logits"] - want["logits"]) <= bound).all()


@pytest.mark.parametrize("kind, release, name, sentence", [
    ("library", TOO_OLD, "mla-int8", "need ONNX Runtime 1.21 or newer"),
    ("plain", "1.21.1", "qmoe-int8", "cannot load this model"),
])
def test_a_release_that_is_too_old_is_a_sentence(models, kind, release, name, sentence):
    done = subprocess.run([sys.executable, "-c", DRIVER, models / name / "model.onnx", kind, "unused"], text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(fetch(release)), str(ROOT)])})
    assert done.returncode == 1 and sentence in done.stderr.strip().splitlines()[-1], done.stderr
