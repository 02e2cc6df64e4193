"""The decoder against a float64 oracle that walks over tokens, heads and experts one by one."""

import math

import numpy as np
import pytest
import torch

from training.checkpoint import expected_shapes, open_checkpoint, save_checkpoint
from training.config import ModelConfig
from training.model import CausalLM, fit_layout

BASE = dict(vocab_size=23, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, q_lora_rank=10, kv_lora_rank=7,
            qk_nope_head_dim=6, qk_rope_head_dim=4, num_experts=5, expert_size=6, intermediate_size=14,
            max_position_embeddings=32, dim_model_base=8, scale_emb=3.0, scale_depth=1.4, bos_token_id=1,
            eos_token_id=2)
VARIANTS = {
    "mla_stacked": {}, "mla_block": {"ffn_type": "block"}, "sum_norm": {"norm_after_router": "sum", "norm_scale": 0.7},
    "no_norm": {"norm_after_router": "none", "ffn_type": "block"}, "untied": {"tie_word_embeddings": False},
    "mha": {"attention_type": "vanilla"}, "gqa": {"attention_type": "vanilla", "num_key_value_heads": 1},
    "dense": {"ffn_type": "vanilla"}, "rope_linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "rope_dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 6},
}


def make(variant: str, **changes) -> CausalLM:
    config = ModelConfig(**(BASE | VARIANTS[variant] | changes))
    model = CausalLM(config)
    model.init_weights(3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # norms that differ from 1, router norms with negative weights
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


# ---- oracle ----

def rms(x, weight, eps):
    return x / np.sqrt(np.mean(x * x) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def rotate(x, position, config, seq_len):
    width, base, scaling = len(x), config.rope_theta, config.rope_scaling or {}
    if scaling.get("type") == "linear":
        position = position / scaling["factor"]
    if scaling.get("type") == "dynamic" and seq_len > config.max_position_embeddings:
        grown = scaling["factor"] * seq_len / config.max_position_embeddings - (scaling["factor"] - 1)
        base = base * grown ** (width / (width - 2))
    out = np.empty(width)
    for i in range(width // 2):
        angle = position * base ** (-2 * i / width)
        a, b = x[i], x[i + width // 2]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + width // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def heads_of(w, prefix, x, position, config, seq_len):
    """Per head: (query, key, value) of one token."""
    H, v_dim = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if config.attention_type == "vanilla":
        q, k, v = (w[f"{prefix}{name}_proj.weight"] @ x for name in "qkv")
        group = H // config.num_key_value_heads
        part = lambda t, h: t[h * v_dim:(h + 1) * v_dim]  # noqa: E731
        return [(rotate(part(q, h), position, config, seq_len), rotate(part(k, h // group), position, config, seq_len),
                 part(v, h // group)) for h in range(H)]
    nope, rope = config.qk_nope_head_dim, config.qk_rope_head_dim
    q = w[prefix + "q_b_proj.weight"] @ rms(w[prefix + "q_a_proj.weight"] @ x, w[prefix + "q_a_layernorm.weight"], 1e-6)
    compressed = w[prefix + "kv_a_proj_with_mqa.weight"] @ x
    latent, k_rope = compressed[:config.kv_lora_rank], compressed[config.kv_lora_rank:]
    kv = w[prefix + "kv_b_proj.weight"] @ rms(latent, w[prefix + "kv_a_layernorm.weight"], 1e-6)
    k_rope, out = rotate(k_rope, position, config, seq_len), []
    for h in range(H):
        q_h, kv_h = q[h * (nope + rope):(h + 1) * (nope + rope)], kv[h * (nope + v_dim):(h + 1) * (nope + v_dim)]
        out.append((np.concatenate((q_h[:nope], rotate(q_h[nope:], position, config, seq_len))),
                    np.concatenate((kv_h[:nope], k_rope)), kv_h[nope:]))
    return out


def feed_forward(w, prefix, x, config):
    if config.ffn_type == "vanilla":
        gate, up = w[prefix + "gate_proj.weight"] @ x, w[prefix + "up_proj.weight"] @ x
        return w[prefix + "down_proj.weight"] @ (silu(gate) * up)
    E, F = config.num_experts, config.expert_size
    scores = np.maximum(w[prefix + "router_proj.weight"] @ x, 0)
    active = scores > 0
    if config.norm_after_router == "rms":
        scores = rms(scores, w[prefix + "router_norm.weight"], config.rms_norm_eps)
    elif config.norm_after_router == "sum":
        scores = scores / (scores.sum() * config.norm_scale + 1e-5)
    up, down = w[prefix + "up_proj"], w[prefix + "down_proj"]
    y = np.zeros(config.hidden_size)
    for e in range(E):
        if active[e]:
            up_e = up[e * F:(e + 1) * F] if up.ndim == 2 else up[e]
            down_e = down[:, e * F:(e + 1) * F] if down.ndim == 2 else down[e]
            y += scores[e] * (down_e @ silu(up_e @ x))
    return y


def oracle_logits(model, ids):
    config, S = model.config, len(ids)
    w = {name: parameter.detach().double().numpy() for name, parameter in model.state_dict().items()}
    residual = config.scale_depth / math.sqrt(config.num_hidden_layers)
    h = [w["model.embed_tokens.weight"][i] * config.scale_emb for i in ids]
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        normed = [rms(x, w[prefix + "input_layernorm.weight"], config.rms_norm_eps) for x in h]
        qkv = [heads_of(w, prefix + "self_attn.", x, t, config, S) for t, x in enumerate(normed)]
        for t in range(S):
            joined = []
            for head in range(config.num_attention_heads):
                query = qkv[t][head][0]
                scores = np.array([query @ qkv[j][head][1] for j in range(t + 1)]) / math.sqrt(len(query))
                p = np.exp(scores - scores.max())
                joined.append(sum(p_j * qkv[j][head][2] for j, p_j in enumerate(p / p.sum())))
            h[t] = h[t] + w[prefix + "self_attn.o_proj.weight"] @ np.concatenate(joined) * residual
        for t in range(S):
            x = rms(h[t], w[prefix + "post_attention_layernorm.weight"], config.rms_norm_eps)
            h[t] = h[t] + feed_forward(w, prefix + "mlp.", x, config) * residual
    head = w["model.embed_tokens.weight"] if config.tie_word_embeddings else w["lm_head.weight"]
    divisor = config.hidden_size / config.dim_model_base
    return np.stack([head @ (rms(x, w["model.norm.weight"], config.rms_norm_eps) / divisor) for x in h])


# ---- tests ----

@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_oracle(variant):
    model = make(variant)
    ids = torch.tensor([[1, 5, 22, 5, 0, 7, 7, 13, 2], [3, 3, 3, 8, 9, 10, 11, 12, 4]])
    with torch.no_grad():
        logits = model.logits(model(ids).hidden).double().numpy()
    for row in range(2):
        want = oracle_logits(model, ids[row].tolist())
        bound = 1e-5 * np.abs(want).max()
        assert not (~(np.abs(logits[row] - want) <= bound)).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_the_published_ones(variant):
    model = make(variant)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if variant == "mla_stacked":
        assert shapes["model.layers.1.mlp.up_proj"] == (30, 24) and shapes["model.layers.1.mlp.down_proj"] == (24, 30)
        assert shapes["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"] == (11, 24)
        assert len(shapes) == 2 + 2 * (2 + 7 + 4) and "lm_head.weight" not in shapes
    names = {name: tuple(shape) for name, shape in expected_shapes(model.config).items()}
    assert shapes.keys() == names.keys()
    assert all(math.prod(shapes[name]) == math.prod(names[name]) for name in names)


@pytest.mark.parametrize("variant", ["mla_stacked", "mla_block", "dense", "untied"])
def test_a_saved_model_loads_and_computes_the_same(variant, tmp_path):
    model, ids = make(variant), torch.arange(10)[None]
    save_checkpoint(tmp_path / "ckpt", model.config, dict(model.named_parameters()), dtype=torch.float32)
    again = CausalLM.from_checkpoint(open_checkpoint(tmp_path / "ckpt"))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with torch.no_grad():
        assert torch.equal(again(ids).hidden, model(ids).hidden)


def test_expert_layouts_convert_both_ways_and_misfits_are_named():
    up, down = torch.arange(30.0).reshape(5, 3, 2), torch.arange(30.0).reshape(5, 2, 3)  # [E, F, D], [E, D, F]
    flat_up = fit_layout(up, torch.Size((15, 2)), "mlp.up_proj")
    flat_down = fit_layout(down, torch.Size((2, 15)), "mlp.down_proj")
    for e in range(5):
        assert torch.equal(flat_up[e * 3:e * 3 + 3], up[e]) and torch.equal(flat_down[:, e * 3:e * 3 + 3], down[e])
    assert torch.equal(fit_layout(flat_up, up.shape, "mlp.up_proj"), up)
    assert torch.equal(fit_layout(flat_down, down.shape, "mlp.down_proj"), down)
    with pytest.raises(ValueError, match="mlp.up_proj: shape"):
        fit_layout(up, torch.Size((15, 3)), "mlp.up_proj")


def test_scores_of_every_layer_are_returned():
    model, ids = make("mla_stacked"), torch.tensor([[1, 2, 3]])
    output = model(ids)
    assert [tuple(raw.shape) for raw in output.raw_scores] == [(1, 3, 5)] * 2
    for layer, raw, scores in zip(model.model.layers, output.raw_scores, output.scores):
        s = raw.double().clamp(min=0)
        want = s / (s.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.mlp.router_norm.weight.double()
        assert bool(((scores - want).abs() <= 1e-5).all()) and bool(((scores == 0) == (raw <= 0)).all())
    assert make("dense")(ids).raw_scores == [None, None]


def test_later_tokens_never_change_earlier_ones():
    model = make("mla_stacked")
    one, two = torch.tensor([[1, 5, 9, 4, 3, 2]]), torch.tensor([[1, 5, 9, 4, 8, 8]])
    with torch.no_grad():
        difference = (model(one).hidden - model(two).hidden).abs().amax(dim=-1)[0]
    assert float(difference[:4].max()) <= 1e-6 and float(difference[4:].min()) > 1e-3


def test_activation_checkpointing_gives_the_same_gradients():
    model, ids = make("mla_stacked"), torch.tensor([[1, 5, 9, 4, 3, 2]])
    gradients = []
    for model.activation_checkpointing in (False, True):
        model.zero_grad()
        output = model(ids)
        (output.hidden.square().sum() + sum(raw.sum() for raw in output.raw_scores)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()
                          if parameter.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients)) and len(gradients[0]) == len(list(model.parameters()))


def test_bf16_compute_keeps_a_float32_router():
    model, ids = make("mla_stacked"), torch.arange(12)[None]
    want = model(ids)
    model.compute_dtype = torch.bfloat16
    output = model(ids)
    assert output.hidden.dtype == torch.bfloat16
    assert output.raw_scores[0].dtype == output.scores[0].dtype == torch.float32
    limit = 0.15 * want.hidden.abs().max()
    assert bool(((output.hidden.float() - want.hidden).abs() <= limit).all())


def test_initial_values_depend_on_the_seed_alone_and_have_the_documented_spread():
    config = ModelConfig(**(BASE | {"hidden_size": 256, "expert_size": 64, "q_lora_rank": 64, "vocab_size": 500,
                                    "dim_model_base": 64}))
    one, two, other = CausalLM(config), CausalLM(config), CausalLM(config)
    torch.manual_seed(0)
    one.init_weights(1)
    torch.manual_seed(1)
    two.init_weights(1)
    other.init_weights(2)
    state = one.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in two.state_dict().items())
    assert not torch.equal(state["model.embed_tokens.weight"], other.state_dict()["model.embed_tokens.weight"])
    layer = "model.layers.0."
    for name, std in {"model.embed_tokens.weight": 0.1, layer + "self_attn.q_a_proj.weight": 0.1 * math.sqrt(64 / 256),
                      layer + "self_attn.q_b_proj.weight": 0.1, layer + "mlp.down_proj": 0.1 * math.sqrt(64 / 320),
                      layer + "mlp.router_proj.weight": 0.5 / 16}.items():
        count = state[name].numel()
        assert abs(float(state[name].std()) / std - 1) <= 5 / math.sqrt(2 * count), name
