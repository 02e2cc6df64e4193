"""Checkpoints: every published spelling, file kind and dtype; laziness; hostile files; atomic writing."""

import json
import os
import pickle
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import TINY, random_tensors, tensor_shapes
from training.checkpoint import expected_shapes, open_checkpoint, save_checkpoint
from training.config import ModelConfig

FLAVOURS = [
    dict(),
    dict(ffn_type="block", norm_after_router="sum"),
    dict(attention_type="vanilla", num_key_value_heads=2, norm_after_router="none"),
    dict(ffn_type="vanilla", attention_type="vanilla", tie_word_embeddings=False),
    dict(tie_word_embeddings=False, ffn_type="block"),
]


def config_of(**overrides):
    return ModelConfig.from_dict(TINY | overrides)


# ---- a writer of foreign layouts that shares no code with the reader ----

def expert_matrices(config, seed=3):
    """[layer][side][expert] -> [F, D] for up, [D, F] for down."""
    generator = torch.Generator().manual_seed(seed)
    E, F, D = config.num_experts, config.expert_size, config.hidden_size
    return [{"up": [torch.randn(F, D, generator=generator) for _ in range(E)],
             "down": [torch.randn(D, F, generator=generator) for _ in range(E)]}
            for _ in range(config.num_hidden_layers)]


def foreign_tensors(config, spelling, experts):
    """Tensors as a published checkpoint of that spelling stores them; expert weights placed row by row."""
    E, F, D = config.num_experts, config.expert_size, config.hidden_size
    tensors = {name: value for name, value in random_tensors(config).items()
               if not name.endswith(("mlp.up_proj", "mlp.down_proj"))}
    for i, layer in enumerate(experts):
        mlp = f"model.layers.{i}.mlp."
        if spelling in ("block", "fastmoe"):
            up, down = torch.empty(E, F, D), torch.empty(E, D, F)
            for e in range(E):
                up[e], down[e] = layer["up"][e], layer["down"][e]
        else:
            up = torch.empty(E * F, D)
            down = torch.empty(D, E * F) if spelling == "block_linear" else torch.empty(E * F, D)
            for e in range(E):
                for f in range(F):
                    up[e * F + f] = layer["up"][e][f]
                    if spelling == "block_linear":
                        down[:, e * F + f] = layer["down"][e][:, f]
                    else:
                        down[e * F + f] = layer["down"][e][:, f]
        prefix, suffix = {"fastmoe": ("experts.", ".weight"), "megablocks": ("mlp.", "")}.get(spelling, ("", ""))
        tensors[f"{mlp}{prefix}up_proj{suffix}"] = up
        tensors[f"{mlp}{prefix}down_proj{suffix}"] = down
    return tensors


def write(directory, config, tensors, files="safetensors"):
    directory.mkdir(parents=True, exist_ok=True)
    config.to_json(directory / "config.json")
    kind, _, sharded = files.partition("-")
    name = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    tensors = {n: t.contiguous() for n, t in tensors.items()}

    def save(values, path):
        if kind == "safetensors":
            save_file(values, path)
        else:
            torch.save(values, path, _use_new_zipfile_serialization=kind != "legacybin")

    if not sharded:
        save(tensors, directory / name)
        return directory
    stem, ending = name.rsplit(".", 1)
    names, weight_map = sorted(tensors), {}
    for shard in range(3):
        file = f"{stem}-{shard + 1:05d}-of-00003.{ending}"
        part = {n: tensors[n] for n in names[shard::3]}
        save(part, directory / file)
        weight_map |= dict.fromkeys(part, file)
    (directory / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory


def test_expected_shapes_equal_an_independent_list():
    for flavour in FLAVOURS:
        config = config_of(**flavour)
        want = dict(tensor_shapes(config))
        for name in want:
            E, F, D = config.num_experts, config.expert_size, config.hidden_size
            if config.is_block_ffn and name.endswith("mlp.up_proj"):
                want[name] = (E, F, D)
            if config.is_block_ffn and name.endswith("mlp.down_proj"):
                want[name] = (E, D, F)
        assert expected_shapes(config) == want


@pytest.mark.parametrize("files", ["safetensors", "safetensors-sharded", "bin", "bin-sharded", "legacybin"])
@pytest.mark.parametrize("spelling", ["block_linear", "block", "fastmoe", "megablocks"])
def test_every_spelling_and_file_kind(tmp_path, spelling, files):
    config = config_of(ffn_type="block_linear" if spelling == "block_linear" else "block", tie_word_embeddings=False)
    experts = expert_matrices(config)
    checkpoint = open_checkpoint(write(tmp_path / "m", config, foreign_tensors(config, spelling, experts), files))
    assert set(checkpoint.tensors) == set(expected_shapes(config))
    for name, want in random_tensors(config).items():
        if not name.endswith(("mlp.up_proj", "mlp.down_proj")):
            assert torch.equal(checkpoint.tensors[name], want), name
    for ffn_type in ("block", "block_linear"):
        state = checkpoint.state_dict(ffn_type)
        for i, layer in enumerate(experts):
            up, down = (checkpoint.tensors[f"model.layers.{i}.mlp.{side}_proj"] for side in ("up", "down"))
            stacked_up, stacked_down = (state[f"model.layers.{i}.mlp.{side}_proj"] for side in ("up", "down"))
            for e in range(config.num_experts):
                assert torch.equal(up[e], layer["up"][e]) and torch.equal(down[e], layer["down"][e])
                if ffn_type == "block":
                    assert torch.equal(stacked_up[e], layer["up"][e]) and torch.equal(stacked_down[e], layer["down"][e])
                for f in range(config.expert_size if ffn_type == "block_linear" else 0):
                    row = e * config.expert_size + f
                    assert torch.equal(stacked_up[row], layer["up"][e][f])
                    assert torch.equal(stacked_down[:, row], layer["down"][e][:, f])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_save_and_open(tmp_path, flavour, dtype):
    config = config_of(**flavour)
    tensors = random_tensors(config)
    save_checkpoint(tmp_path / "m", config, tensors, dtype)
    checkpoint = open_checkpoint(tmp_path / "m")
    state = checkpoint.state_dict()
    assert set(state) == set(tensors)
    for name, tensor in tensors.items():
        assert state[name].dtype == dtype and torch.equal(state[name], tensor.to(dtype)), name
    assert len({path.stat().st_mode for path in (tmp_path / "m").iterdir()}) == 1  # readable by whom the rest is
    written = json.loads((tmp_path / "m/config.json").read_text())
    assert written["torch_dtype"] == str(dtype).split(".")[1]
    assert written | {"torch_dtype": config.torch_dtype} == config.to_dict()
    # canonical views can be written back, sharded, to the same bytes
    save_checkpoint(tmp_path / "again", config, checkpoint.tensors, dtype, max_shard_bytes=20_000)
    assert len(list((tmp_path / "again").glob("model-*.safetensors"))) > 2
    again = open_checkpoint(tmp_path / "again").state_dict()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_shards_respect_the_limit(tmp_path):
    config = config_of()
    save_checkpoint(tmp_path / "m", config, random_tensors(config), torch.float32, max_shard_bytes=30_000)
    largest = max(torch.Size(shape).numel() * 4 for shape in expected_shapes(config).values())
    for path in (tmp_path / "m").glob("*.safetensors"):
        header = struct.unpack("<Q", path.read_bytes()[:8])[0]
        assert path.stat().st_size - 8 - header <= max(30_000, largest)
    index = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * sum(t.numel() for t in random_tensors(config).values())


def test_harmless_extras_and_a_stored_tied_head(tmp_path):
    config = config_of()
    tensors = random_tensors(config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    tensors["model.layers.0.self_attn.rotary_emb.cos_cached"] = torch.ones(4, 2, dtype=torch.float64)
    checkpoint = open_checkpoint(write(tmp_path / "m", config, tensors))
    assert set(checkpoint.tensors) == set(tensor_shapes(config))


def test_not_finite_weights_open(tmp_path):
    config = config_of()
    tensors = {name: torch.full_like(t, float("nan")) for name, t in random_tensors(config).items()}
    assert open_checkpoint(write(tmp_path / "m", config, tensors)).tensors["model.norm.weight"].isnan().all()


# ---- laziness ----

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_opening_a_large_checkpoint_reads_headers_only(tmp_path):
    config = config_of(vocab_size=4_000_000, hidden_size=128, num_attention_heads=4, tie_word_embeddings=False)
    tmp_path = tmp_path / "m"
    tmp_path.mkdir()
    config.to_json(tmp_path / "config.json")
    header, end = {}, 0
    for name, shape in tensor_shapes(config).items():
        size = 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        handle.truncate(8 + len(text) + end)  # a sparse file: 4 GB that take no space on disk
    assert end > 4e9
    before = resident_bytes()
    checkpoint = open_checkpoint(tmp_path)
    norm = checkpoint.tensors["model.norm.weight"].clone()
    embedding = checkpoint.tensors["model.embed_tokens.weight"]
    assert norm.abs().max() == 0 and embedding[12345, 6] == 0
    assert resident_bytes() - before < 100e6


@pytest.mark.parametrize("files, file", [("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")])
@pytest.mark.parametrize("spelling", ["block_linear", "megablocks"])
def test_expert_views_point_into_the_mapped_file(tmp_path, spelling, files, file):
    config = config_of(ffn_type="block_linear" if spelling == "block_linear" else "block")
    write(tmp_path / "m", config, foreign_tensors(config, spelling, expert_matrices(config)), files)
    checkpoint = open_checkpoint(tmp_path / "m")
    tensors = [checkpoint.tensors["model.layers.1.mlp.up_proj"], checkpoint.tensors["model.layers.1.mlp.down_proj"],
               checkpoint.state_dict("block_linear")["model.layers.1.mlp.down_proj"]]
    for tensor in tensors:
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(file)]
        spans = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in lines]
        assert any(low <= tensor.data_ptr() < high for low, high in spans)


# ---- errors ----

def test_one_error_lists_everything(tmp_path):
    config = config_of()
    tensors = random_tensors(config)
    del tensors["model.norm.weight"]
    del tensors["model.layers.1.mlp.router_proj.weight"]
    tensors["model.layers.0.mlp.down_proj"] = torch.zeros(3, 5)
    tensors["model.layers.9.mlp.up_proj"] = torch.zeros(2, 2)
    tensors["surprise"] = torch.zeros(7)
    tensors["model.layers.0.input_layernorm.weight"] = torch.zeros(TINY["hidden_size"], dtype=torch.float64)
    tensors["model.layers.1.mlp.experts.up_proj.weight"] = torch.zeros(6, 12, 48)
    with pytest.raises(ValueError) as caught:
        open_checkpoint(write(tmp_path / "m", config, tensors))
    message = str(caught.value)
    for part in ("missing:    model.norm.weight [48]", "missing:    model.layers.1.mlp.router_proj.weight",
                 "misshapen:  model.layers.0.mlp.down_proj is [3, 5], config.json implies [48, 72]",
                 "unexpected: model.layers.9.mlp.up_proj", "unexpected: surprise [7]",
                 "wrong type: model.layers.0.input_layernorm.weight", "twice:      model.layers.1.mlp.up_proj", "Fix:"):
        assert part in message, message


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, 3000, -1])
def test_truncated_safetensors(tmp_path, cut):
    config = config_of()
    path = write(tmp_path / "m", config, random_tensors(config)) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="model.safetensors: not a whole safetensors file"):
        open_checkpoint(tmp_path / "m")


def test_mutated_headers_never_crash(tmp_path):
    config = config_of()
    path = write(tmp_path / "m", config, random_tensors(config)) / "model.safetensors"
    whole, rng = path.read_bytes(), random.Random(0)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(header)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            for tensor in open_checkpoint(tmp_path / "m").tensors.values():
                tensor.sum()
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("cut", [0, 10, 1000, -30])
def test_truncated_bin(tmp_path, cut):
    config = config_of()
    path = write(tmp_path / "m", config, random_tensors(config), "bin") / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="pytorch_model.bin: "):
        open_checkpoint(tmp_path / "m")


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, writer):
    config = config_of()
    write(tmp_path / "m", config, random_tensors(config), "bin")
    path, marker = tmp_path / "m/pytorch_model.bin", tmp_path / "executed"
    values = random_tensors(config) | {"x": Payload(str(marker))}
    if writer == "torch":
        torch.save(values, path)
    else:
        path.write_bytes(pickle.dumps(values))
    with pytest.raises(ValueError, match="could run code|not a whole PyTorch"):
        open_checkpoint(tmp_path / "m")
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": 1}}, {1: torch.zeros(2)}])
def test_bin_that_is_no_state_dict(tmp_path, content):
    config = config_of()
    write(tmp_path / "m", config, {}, "bin")
    torch.save(content, tmp_path / "m/pytorch_model.bin")
    with pytest.raises(ValueError, match="expected one dictionary|unexpected"):
        open_checkpoint(tmp_path / "m")


@pytest.fixture
def sharded(tmp_path):
    config = config_of()
    directory = write(tmp_path / "m", config, random_tensors(config), "safetensors-sharded")
    return directory, directory / "model.safetensors.index.json"


@pytest.mark.parametrize("target", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", 7])
def test_index_must_not_leave_the_directory(sharded, target):
    directory, index = sharded
    shutil.copy(directory / "model-00001-of-00003.safetensors", directory.parent / "outside.safetensors")
    values = json.loads(index.read_text())
    values["weight_map"] = dict.fromkeys(values["weight_map"], target)
    index.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="not a file name in this directory"):
        open_checkpoint(directory)


def test_index_problems_are_listed_together(sharded):
    directory, index = sharded
    (directory / "model-00002-of-00003.safetensors").unlink()
    values = json.loads(index.read_text())
    moved = next(n for n, f in values["weight_map"].items() if f.startswith("model-00001"))
    values["weight_map"][moved] = "model-00003-of-00003.safetensors"
    index.write_text(json.dumps(values))
    with pytest.raises(ValueError) as caught:
        open_checkpoint(directory)
    assert "model-00002-of-00003.safetensors: missing" in str(caught.value)
    assert f"{moved}: not in model-00003" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["b"]}}', "\xff"])
def test_broken_index(sharded, text):
    directory, index = sharded
    index.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="index.json"):
        open_checkpoint(directory)


def test_missing_parts(tmp_path):
    with pytest.raises(ValueError, match="not a directory"):
        open_checkpoint(tmp_path / "absent")
    with pytest.raises(ValueError, match="config.json"):
        open_checkpoint(tmp_path)
    config_of().to_json(tmp_path / "config.json")
    with pytest.raises(ValueError, match="no weights"):
        open_checkpoint(tmp_path)


# ---- writing ----

def test_tokenizer_files_travel(tiny_tokenizer, tmp_path):
    config = config_of()
    save_checkpoint(tmp_path / "m", config, random_tensors(config), tokenizer_dir=tiny_tokenizer)
    assert open_checkpoint(tmp_path / "m").tokenizer_dir == tmp_path / "m"
    save_checkpoint(tmp_path / "n", config, random_tensors(config))
    assert open_checkpoint(tmp_path / "n").tokenizer_dir is None


class Interrupting(dict):
    def __getitem__(self, name):
        if name == "model.norm.weight":
            raise KeyboardInterrupt
        return super().__getitem__(name)


def test_a_failure_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    config = config_of()
    tensors = random_tensors(config)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "m", config, Interrupting(tensors))
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "m", config, tensors, torch.float32)
    with pytest.raises(ValueError, match=r"model.norm.weight is \[3\]"):
        save_checkpoint(tmp_path / "m", config, tensors | {"model.norm.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="(?s)missing model.norm.weight.*unexpected other"):
        save_checkpoint(tmp_path / "m", config,
                        {n: t for n, t in tensors.items() if n != "model.norm.weight"} | {"other": torch.zeros(1)})
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert torch.equal(open_checkpoint(tmp_path / "m").tensors["model.norm.weight"], tensors["model.norm.weight"])
    save_checkpoint(tmp_path / "m", config, random_tensors(config, seed=1), torch.float32, max_shard_bytes=30_000)
    assert not (tmp_path / "m/model.safetensors").exists()  # replaced as a whole
    assert not torch.equal(open_checkpoint(tmp_path / "m").tensors["model.norm.weight"], tensors["model.norm.weight"])


def test_foreign_files_are_never_deleted(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/thesis.txt").write_text("years of work")
    config = config_of()
    with pytest.raises(ValueError, match="holds thesis.txt"):
        save_checkpoint(tmp_path / "m", config, random_tensors(config))
    assert (tmp_path / "m/thesis.txt").read_text() == "years of work"
