"""Fixtures of the Core ML tests: packages of small random checkpoints, each written once."""

import pytest

pytest.importorskip("coremltools", reason="coremltools has no wheel for this system or Python: Core ML is not tested")

from export import to_coreml

CONTEXT = 128
FLAVOURS = {
    "mla": dict(rope_scaling={"type": "dynamic", "factor": 3.0}, max_position_embeddings=64),
    "gqa": dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False, norm_after_router="sum"),
    "none": dict(norm_after_router="none", num_hidden_layers=1),
    "dense": dict(ffn_type="vanilla", attention_type="vanilla", rope_scaling={"type": "linear", "factor": 2.0}),
}


def export(checkpoint, output, *options) -> int:
    """Exit status of the command, run in this process."""
    return to_coreml.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), *options])


@pytest.fixture(scope="session")
def exported(tmp_path_factory, tiny_checkpoint):
    """exported(flavour, quant, *options) -> (checkpoint directory, package); unchecked."""
    made = {}

    def make(flavour="mla", quant="fp16", *options):
        key = flavour, quant, options
        if key not in made:
            checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
            package = tmp_path_factory.mktemp("package") / "model.mlpackage"
            assert export(checkpoint, package, "--quant", quant, "--check", "none", *options) == 0
            made[key] = checkpoint, package
        return made[key]

    return make
