"""Damaged, foreign and outdated .pte files are refused with a sentence; none kills the process.

Each test tries its files in one other process, which prints a line per file: a crash is then seen as a
missing line and a signal instead of ending the test run.
"""

import random
import struct
import subprocess
import sys

import pytest
import torch

from runtime_delegates.runner import Runner
from runtime_delegates.session import check_pte

TRY_FILES = """
import sys
from pathlib import Path
from runtime_delegates.session import Session
for path in sys.argv[1:]:
    print(Path(path).name, end=" ", flush=True)
    try:
        session = Session(path)
        session.step(range(1, 9))
        session.step([9])
        print("ran", flush=True)
    except (ValueError, RuntimeError) as error:
        print("refused", error, flush=True)
"""


def try_files(paths):
    """{file name: "ran" or the sentence}; fails the test if the process died."""
    done = subprocess.run([sys.executable, "-c", TRY_FILES, *map(str, paths)], capture_output=True, timeout=600)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, f"exit status {done.returncode} at: {lines[-1:]}\n{done.stderr.decode()[-2000:]}"
    results = dict(line.split(" ", 1) for line in lines)
    assert len(results) == len(paths)
    return results


def damaged(tmp_path, data, changes):
    """Writes one file per change: {name: function(bytearray) -> bytes}."""
    paths = []
    for name, change in changes.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(change(bytearray(data)))
    return paths


@pytest.fixture(scope="module")
def pte_bytes(tiny_pte):
    return tiny_pte("int8").read_bytes()


def flip(bit):
    def change(data):
        data[bit // 8] ^= 1 << bit % 8
        return data
    return change


def test_truncated_files(tmp_path, pte_bytes):
    size = len(pte_bytes)
    lengths = sorted({size * i // 16 for i in range(17)} | {1, 7, 8, 12, 31, 32, 40, 47, 48, size - 1})
    paths = damaged(tmp_path, pte_bytes, {f"{n:08}": lambda data, n=n: data[:n] for n in lengths})
    results = try_files(paths)
    for n in lengths[:-1]:
        assert results[f"{n:08}"].startswith("refused") and ("truncated" in results[f"{n:08}"] or n < 48 and "not an ExecuTorch" in results[f"{n:08}"])
    assert results[f"{size:08}"] == "ran"


def test_flipped_header_bits(tmp_path, pte_bytes):
    """Every bit of the file's header, which says where the program and its weights lie."""
    paths = damaged(tmp_path, pte_bytes, {f"bit{bit:04}": flip(bit) for bit in range(8 * 56)})
    results = try_files(paths)
    refused = [name for name, result in results.items() if result.startswith("refused")]
    assert {f"bit{bit:04}" for bit in range(32, 64)} <= set(refused)  # the file's magic


def test_flipped_bits_of_the_program_are_refused_before_executorch_sees_them(tmp_path, pte_bytes, backend):
    """Some of its fields would end the process: ExecuTorch's own verifier checks structure, not values."""
    _, program_bytes, segments_offset, _ = struct.unpack("<IQQQ", pte_bytes[12:40])
    assert pte_bytes[-24:-16] == b"BFCHECK1" and program_bytes <= segments_offset
    path = tmp_path / "model.pte"
    for bit in random.Random(2).sample(range(8 * 8, 8 * program_bytes), 400):
        path.write_bytes(flip(bit)(bytearray(pte_bytes)))
        with pytest.raises(RuntimeError, match="damaged, its checksum differs"):
            check_pte(path)
        with pytest.raises(RuntimeError, match="damaged, its checksum differs"):
            Runner(path)


def test_a_program_without_checksum_is_not_refused(tmp_path, pte_bytes, backend):
    path = tmp_path / "model.pte"
    path.write_bytes(pte_bytes[:-24])
    assert try_files([path])["model.pte"] == "ran" and Runner(path).generate([5], 2).ids


def test_flipped_delegate_and_weight_bits(tmp_path, pte_bytes):
    """Bits of our own blob and of the weights; the numbers may change, the process lives."""
    start = pte_bytes.find(b"BFPG")
    assert start > 0
    _, _, segments_offset, _ = struct.unpack("<IQQQ", pte_bytes[12:40])
    rng = random.Random(1)
    bits = rng.sample(range(8 * start, 8 * (start + 3000)), 150) + rng.sample(range(8 * segments_offset, 8 * len(pte_bytes)), 100)
    results = try_files(damaged(tmp_path, pte_bytes, {f"bit{bit:08}": flip(bit) for bit in bits}))
    assert {result.split()[0] for result in results.values()} == {"ran", "refused"}


def test_other_files(tmp_path, pte_bytes):
    wrong_magic = damaged(tmp_path, pte_bytes, {
        "empty": lambda data: b"", "text": lambda data: b"hello world\n" * 100, "zeros": lambda data: bytes(len(data)),
        "onnx": lambda data: b"\x08\x07" + bytes(data[2:4]) + b"ONNX" + bytes(data[8:])})
    for result in try_files(wrong_magic).values():
        assert result.startswith("refused") and "not an ExecuTorch program" in result
    with pytest.raises(RuntimeError, match="No such file"):
        check_pte(tmp_path / "nowhere.pte")


def export_add(path, constants):
    """A program of another model: x + x, with metadata methods."""
    from executorch.exir import to_edge_transform_and_lower

    class Add(torch.nn.Module):
        def forward(self, x):
            return x + x

    edge = to_edge_transform_and_lower(torch.export.export(Add(), (torch.ones(2),)), constant_methods=constants)
    path.write_bytes(edge.to_executorch().buffer)
    return path


def test_programs_of_other_models_and_versions(tmp_path, backend):
    foreign = export_add(tmp_path / "foreign", {"get_vocab_size": 5})
    newer = export_add(tmp_path / "newer", {"get_blockffn_format_version": 999})
    results = try_files([foreign, newer])
    assert results["foreign"].startswith("refused") and "not exported by export/to_executorch.py" in results["foreign"]
    assert results["newer"].startswith("refused") and "format version 999" in results["newer"]
