"""Fixtures of the Core ML tests: packages of small random checkpoints, each written once by the command."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from export import to_coreml

CONTEXT = 128
# A conversion costs seconds of processor time per layer and function: what another package shows as well is left out.
PACKAGES = {  # of PRECISION or PRECISION WHAT: configuration, options
    # Four packages of two functions: every precision with both forms of the FFN, on both kinds of attention.
    "fp16": (dict(rope_scaling={"type": "dynamic", "factor": 3.0}, max_position_embeddings=64),
             ("--ffn", "gather", "--gather-experts", "2,4", "--gather-chunk", "64", "--check", "parity")),
    "int8": (dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False, norm_after_router="sum"),
             ("--ffn", "gather", "--gather-experts", "4", "--gather-chunk", "64", "--check", "parity")),
    "int4": (dict(num_hidden_layers=1), ("--ffn", "gather", "--gather-chunk", "2", "--heldout-tokens", "300")),
    "palette4": (dict(num_hidden_layers=1), ("--ffn", "gather", "--gather-experts", "3", "--gather-chunk", "4", "--check", "parity")),
    # One function.
    "int8 plain": (dict(), ("--check", "none")),
    "fp16 none": (dict(norm_after_router="none", num_hidden_layers=1), ("--check", "parity")),
    "int8 dense": (dict(ffn_type="vanilla", attention_type="vanilla", rope_scaling={"type": "linear", "factor": 2.0},
                        num_hidden_layers=1), ("--check", "parity")),
}


@pytest.fixture(scope="session", autouse=True)
def coremltools():
    try:
        import coremltools
    except ImportError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            f"NOT RUN: Core ML is not tested, coremltools cannot be imported ({error}); it has wheels for x86-64 Linux and macOS, "
            "and Python before 3.14")
    return coremltools


def export(checkpoint, output, *options) -> int:
    """Exit status of the command, run in this process."""
    return to_coreml.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), *options])


@dataclass(frozen=True)
class Exported:
    checkpoint: Path
    package: Path
    quant: str
    table: str  # what the command printed
    result: dict  # its JSON line


@pytest.fixture(scope="session")
def exported(tmp_path_factory, tiny_checkpoint):
    """exported(name of PACKAGES) -> Exported. Do not change the package, copy it."""
    made = {}

    def make(name="int8 plain") -> Exported:
        if name not in made:
            config, options = PACKAGES[name]
            quant = name.split()[0]
            checkpoint = tiny_checkpoint(**config)
            package = tmp_path_factory.mktemp("package") / "new" / "model.mlpackage"
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert export(checkpoint, package, "--quant", quant, *options) == 0
            made[name] = Exported(checkpoint, package, quant, out.getvalue(), json.loads(out.getvalue().splitlines()[-1]))
        return made[name]

    return make
