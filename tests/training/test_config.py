"""Both configurations: published files load, mistakes are named with the fix, overrides apply."""

import json

import pytest

from training.config import ModelConfig
from training.train_config import TrainConfig


def test_published_keys_survive_a_round_trip(tmp_path):
    published = {"architectures": ["MiniCPMForCausalLM"], "hidden_size": 1792, "num_attention_heads": 14,
                 "num_hidden_layers": 35, "num_experts": 56, "expert_size": 128, "q_lora_rank": 768,
                 "kv_lora_rank": 256, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
                 "vocab_size": 73448, "eos_token_id": [2, 73440],
                 "auto_map": {"AutoConfig": "x.Y"}, "rope_scaling": None, "transformers_version": "4.41"}
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = ModelConfig.from_json(tmp_path)
    assert config.v_head_dim == 128 and config.qk_head_dim == 192 and config.eos_ids == [2, 73440]
    config.to_json(tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    assert all(again[key] == value for key, value in published.items())


@pytest.mark.parametrize("change, message", [
    ({"hidden_size": 100, "num_attention_heads": 3}, "multiple of num_attention_heads"),
    ({"ffn_type": "sparse"}, "use one of block_linear, block, vanilla"), ({"attention_bias": True}, "only false"),
    ({"rope_scaling": {"type": "yarn", "factor": 2}}, "linear, dynamic"), ({"qk_rope_head_dim": 5}, "make it even"),
    ({"num_experts": 0}, "num_experts=0"), ({"ffn_type": "vanilla"}, "intermediate_size=None"),
    ({"eos_token_id": 10**6}, "below vocab_size"), ({"hidden_size": "many"}, "expected int")])
def test_an_impossible_architecture_is_refused(change, message):
    with pytest.raises(ValueError) as error:
        ModelConfig.from_dict(change)
    assert message in str(error.value)


def test_another_family_must_say_what_it_means(tmp_path):
    """A Llama has no scale_emb in its config.json: our default of 12 would give wrong text without an error."""
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4,
             "num_attention_heads": 4, "intermediate_size": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e4}
    (tmp_path / "config.json").write_text(json.dumps(llama))
    with pytest.raises(ValueError, match="model_type='llama'.*add attention_type, ffn_type, scale_emb, scale_depth, dim_model_base, "
                                         "tie_word_embeddings "):
        ModelConfig.from_json(tmp_path)
    said = {"attention_type": "vanilla", "ffn_type": "vanilla", "scale_emb": 1, "scale_depth": 2.0, "dim_model_base": 64,
            "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(llama | said))
    config = ModelConfig.from_json(tmp_path)
    assert (config.scale_emb, config.scale_depth, config.tie_word_embeddings, config.model_type) == (1, 2, False, "llama")


@pytest.mark.parametrize("text, message", [("", "not valid JSON"), ("[]", "expected a JSON object"),
                                           (None, "no such file")])
def test_a_broken_config_json_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError) as error:
        ModelConfig.from_json(tmp_path)
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_yaml_numbers_and_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("lr: 2e-3\nsteps: 1e3\ncompile: true\nmodel:\n  num_experts: 8\n")
    config = TrainConfig.from_yaml(path, ["lr=5e-4", "model.expert_size=32", "cs_target_cls8=0.7", "tokenizer=null"])
    assert (config.lr, config.steps, config.compile) == (5e-4, 1000, "true")
    assert (config.model.num_experts, config.model.expert_size, config.cs_target_cls8) == (8, 32, 0.7)
    assert TrainConfig.from_dict(config.to_dict() | {"model": {"num_experts": 8, "expert_size": 32}}) == config


@pytest.mark.parametrize("override, message", [
    ("lerning_rate=1", "did you mean"), ("model.num_expert=4", "did you mean model.num_experts"), 
    ("lr", "key=value"),
    ("lr=fast", "expected float"), ("lr=0", "above 0"), ("steps=2.5", "expected int"),
    ("device=tpu", "auto, cpu, cuda"),
    ("warmup_fraction=0.9", "lower one of them"), ("seq_len=8192", "max_position_embeddings"),
    ("micro_batch_size=3", "make it a multiple"), ("cs_target_cls8=70", "between 0 and 1"), ("model=3", "section"),
    ("lr=[1", "--set lr=[1: the value is not valid YAML")])
def test_a_mistake_in_the_recipe_is_named(tmp_path, override, message):
    path = tmp_path / "c.yaml"
    path.write_text("steps: 10\n")
    with pytest.raises(ValueError) as error:
        TrainConfig.from_yaml(path, [override])
    assert message in str(error.value)


def test_a_recipe_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "flat.yaml").write_text("model: 3\n")
    for path, overrides, message in ((tmp_path, [], "cannot be read"), (tmp_path / "binary.yaml", [], "cannot be read"),
                                     (tmp_path / "none.yaml", [], "no such file"),
                                     (tmp_path / "flat.yaml", ["model.num_experts=4"], "model: expected a section")):
        with pytest.raises(ValueError) as error:
            TrainConfig.from_yaml(path, overrides)
        assert message in str(error.value)


def test_precision_follows_the_device_unless_it_is_said():
    assert [TrainConfig(precision=name).uses_bf16(device) for name in ("auto", "bf16", "fp32") for device in ("cpu", "cuda")] \
        == [False, True, True, True, False, False]
