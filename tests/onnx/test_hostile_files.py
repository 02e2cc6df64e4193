"""Damaged and hostile ONNX files, each tried in a process that must not crash; one session under many threads."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.decoder import Decoder
from export.onnx_graph import write_onnx
from runtime_delegates.onnx_model import OnnxModel
from tests.onnx.models import session as open_session
from training.checkpoint import open_checkpoint

ROOT = Path(__file__).resolve().parents[2]
# For each line of JSON on stdin (a file, a place and bytes): writes them, loads and runs the model, puts the old bytes back.
DRIVER = """
import json, sys
import numpy as np
from runtime_delegates.onnx_model import OnnxModel
model, outcomes = sys.argv[1], []
row = lambda *x: np.array(x, dtype=np.int64)
for line in sys.stdin:
    path, at, value = json.loads(line)
    value = bytes(value)
    with open(path, "r+b") as file:
        file.seek(at)
        before = file.read(len(value))
        file.seek(at)
        file.write(value)
    try:
        loaded = OnnxModel(model, threads=1)
        outputs = loaded.run_chunk(row(5, 6, 7)[None], row(0, 1, 2), row(0), row(1, 3, 7), np.full(64, -1), row(0))
        outcomes.append("ran" if all(np.isfinite(y).all() for y in outputs) else "not finite")
        del loaded
    except RuntimeError as error:
        outcomes.append(str(error))
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(before)
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module", params=["int8", "int4"])
def directory(request, tiny_checkpoint, backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(Decoder(open_checkpoint(tiny_checkpoint()), request.param, 96), folder / "model.onnx")
    return folder


@pytest.fixture
def copied(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "onnx")


def outcomes(model, damages):
    """What the model does with each damage; fails if the process dies of one."""
    lines = "\n".join(json.dumps([str(path), at, list(value)]) for path, at, value in damages)
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", DRIVER, model], input=lines, text=True, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(found):
    assert all(o == "ran" or "the program failed" in o or "cannot load this model" in o for o in found), set(found)
    assert all("\n" not in o for o in found)


NAMES = ["model.onnx", "model.library.onnx"]  # weights in tensors of their own, and all in one


@pytest.mark.parametrize("name", NAMES)
def test_damaged_headers_of_packed_weights_never_crash(copied, name):
    """Every byte of the headers that say sizes, offsets and formats."""
    data, rng = copied / "model.onnx.data", np.random.default_rng(1)
    content, places = data.read_bytes(), []
    for magic, size in ((b"BFMX", 20), (b"BFFF", 72)):
        first = content.index(magic)
        places += range(first, first + size)
    found = outcomes(copied / name, [(data, at, [content[at] ^ int(rng.integers(1, 256))]) for at in places])
    check(found)
    assert sum(o != "ran" for o in found) > 0.7 * len(found)  # some are floats


def test_damaged_weights_run_or_are_a_sentence(copied):
    data, rng = copied / "model.onnx.data", np.random.default_rng(2)
    size = data.stat().st_size
    damages = [(data, int(rng.integers(0, size - 8)), rng.integers(0, 256, 8).tolist()) for _ in range(40)]
    damages += [(data, int(rng.integers(0, size - 64)), [fill] * 64) for fill in (0, 0x7F, 0xFF) for _ in range(8)]
    check(outcomes(copied / "model.onnx", damages))


def test_a_damaged_operator_list_never_crashes(copied):
    """Its bytes lie in the graph; those of ONNX itself are left alone, they are the runtime's to check."""
    path, rng = copied / "model.library.onnx", np.random.default_rng(3)
    listed = onnx.load(path, load_external_data=False).graph.initializer[0].raw_data
    first = path.read_bytes().index(listed)
    places = [*range(40), *rng.integers(40, len(listed), 120).tolist()]
    found = outcomes(path, [(path, first + at, [listed[at] ^ int(rng.integers(1, 256))]) for at in places])
    check(found)
    assert sum(o != "ran" for o in found) > 0.3 * len(found)


@pytest.mark.parametrize("changes", [
    {"offset": "-64"}, {"offset": "99999999999"}, {"length": "-1"}, {"length": "99999999999999"}, {"length": "64"},
    {"location": "../model.onnx.data"}, {"location": "/etc/hostname"}, {"location": "none.data"}, {"location": "."},
    {"offset": "many"}, {"location": ""},
])
@pytest.mark.parametrize("name", NAMES)
def test_hostile_places_of_external_data_are_a_sentence(copied, name, changes):
    model = onnx.load(copied / name, load_external_data=False)
    for entry in model.graph.initializer[1].external_data:
        entry.value = changes.get(entry.key, entry.value)
    (copied / name).write_bytes(model.SerializeToString())
    shutil.copy(copied / "model.onnx.data", copied.parent)  # what the path outside would find
    with pytest.raises(RuntimeError, match="cannot load this model .*export it again") as error:
        OnnxModel(copied / name, threads=1)
    assert "\n" not in str(error.value)


def test_weights_that_lie_askew_are_a_sentence(copied):
    """Four bytes further, where the kernels' tiles and the floats' records no longer begin at a multiple of 64."""
    path, data = copied / "model.library.onnx", copied / "model.onnx.data"
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[1].external_data:
        entry.value = str(int(entry.value) + 4) if entry.key == "offset" else entry.value
    path.write_bytes(model.SerializeToString())
    data.write_bytes(bytes(4) + data.read_bytes())
    with pytest.raises(RuntimeError, match="multiple of 64 bytes; export the model again"):
        OnnxModel(path, threads=1)


def test_inputs_that_do_not_fit_the_operator_list_are_a_sentence(copied):
    """A cache too many: the caller's own count of inputs must be the list's."""
    path = copied / "model.library.onnx"
    model = onnx.load(path, load_external_data=False)
    (node,) = model.graph.node
    node.input.append(node.input[-1])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeError, match="inputs do not fit its operator list; export the model again"):
        OnnxModel(path, threads=1)


@pytest.mark.parametrize("part", [0, 1, 0.5, 0.99])
@pytest.mark.parametrize("truncated, loaded", [(name, name) for name in NAMES] + [("model.onnx.data", name) for name in NAMES])
def test_truncated_files_are_a_sentence(copied, truncated, loaded, part):
    path = copied / truncated
    os.truncate(path, int(part * path.stat().st_size) if part < 1 else 1)
    with pytest.raises(RuntimeError, match="cannot load this model") as error:
        OnnxModel(copied / loaded, threads=1)
    assert "\n" not in str(error.value)


def test_operator_list_that_points_outside_the_one_tensor(copied):
    """Every weight's record, moved or grown beyond the end."""
    path = copied / "model.library.onnx"
    model = onnx.load(path, load_external_data=False)
    listed = model.graph.initializer[0].raw_data
    values, key_bytes = (int.from_bytes(listed[at : at + 4], "little") for at in (8, 24))
    start = -(-(32 + key_bytes) // 8) * 8
    weights = [at for at in range(start, start + 48 * values, 48) if listed[at] == 3]  # 48 bytes each; kind 3: weight
    assert len(weights) > 10
    for at in weights[:: len(weights) // 10]:
        for field, value in ((24, 2**40), (24, 2**64 - 64), (32, 2**40), (32, 2**64 - 1), (24, 32)):
            damaged = listed[: at + field] + value.to_bytes(8, "little") + listed[at + field + 8 :]
            model.graph.initializer[0].raw_data = damaged
            path.write_bytes(model.SerializeToString())
            with pytest.raises(RuntimeError, match="a weight lies outside|a weight has the wrong size"):
                OnnxModel(path, threads=1)


def test_a_data_file_that_is_none(copied):
    (copied / "model.onnx.data").unlink()
    (copied / "model.onnx.data").mkdir()
    with pytest.raises(RuntimeError, match="cannot load this model"):
        OnnxModel(copied / "model.onnx", threads=1)


@pytest.mark.parametrize("tokens", [0, 65])
def test_chunks_of_a_wrong_size(directory, tokens):
    chunk = np.zeros((1, tokens), np.int64), *(np.zeros(n, np.int64) for n in (tokens, 1, tokens, 64, 1))
    with pytest.raises(ValueError, match="1 to 64 tokens"):
        OnnxModel(directory / "model.onnx", threads=1).run_chunk(*chunk)


def test_one_session_from_many_threads(directory):
    """Every thread has caches of its own; the operator lets one run after the other."""
    shared, rng = open_session(directory / "model.onnx", threads=2), np.random.default_rng(4)
    caches = {i.name: i.shape for i in shared.get_inputs() if i.name.startswith("past_")}
    texts = [rng.integers(3, 320, 60) for _ in range(8)]

    def logits_of(text, session):
        state, rows = {name: np.zeros(shape, np.float32) for name, shape in caches.items()}, []
        for at in range(0, len(text), 3):
            feeds = dict(token_ids=text[None, at : at + 3], positions=np.arange(at, at + 3), n_past=np.array([at]),
                         tree_mask=np.array([1, 3, 7]), kv_src=np.full(64, -1), logits_start=np.array([0]))
            got = session.run(["logits", *(name.replace("past", "present") for name in state)], feeds | state)
            state = dict(zip(state, got[1:], strict=True))
            rows.append(got[0][0])
        return np.concatenate(rows)

    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: logits_of(texts[i], shared)})) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = open_session(directory / "model.onnx", threads=1)
    assert len(results) == len(texts)
    for i, text in enumerate(texts):
        assert np.array_equal(results[i], logits_of(text, alone))


def test_sessions_come_and_go_in_many_threads(directory):
    """All of them share one operator domain, which lives as long as the process."""
    row, seen = lambda *x: np.array(x, dtype=np.int64), []

    def come_and_go():
        for _ in range(5):
            model = OnnxModel(directory / "model.library.onnx", threads=1)
            seen.append(model.run_chunk(row(5, 6)[None], row(0, 1), row(0), row(1, 3), np.full(64, -1), row(0))[0].copy())
            del model

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20 and all(np.array_equal(seen[0], logits) for logits in seen)
