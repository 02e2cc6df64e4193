"""A whole language model in float64, one token and one head at a time: the oracle of the exporter's tests.

Written from the architecture's description (full keys and values, no cache, no absorbed matrices), on
plain numpy arrays; it shares no code with training/, export/ or the kernels. A token attends to its
ancestors: `parents[t]` is the token before t on its path, so that a chain and a tree are one case.
"""

import math

import numpy as np


def forward(config, tensors, token_ids, parents=None, max_context=None):
    """(logits [T, V], hidden [T, D] after the final norm). parents default to the chain -1, 0, 1, ..."""
    c = config
    w = {name: tensors[name].double().numpy() for name in tensors}
    T = len(token_ids)
    parents = list(range(-1, T - 1)) if parents is None else parents
    ancestors = []
    for t in range(T):
        ancestors.append((ancestors[parents[t]] if parents[t] >= 0 else []) + [t])
    position = [len(path) - 1 for path in ancestors]
    residual = c.scale_depth / math.sqrt(c.num_hidden_layers)
    h = [w["model.embed_tokens.weight"][i] * c.scale_emb for i in token_ids]
    for layer in range(c.num_hidden_layers):
        p = f"model.layers.{layer}."
        x = [norm(v, w[p + "input_layernorm.weight"], c.rms_norm_eps) for v in h]
        attend = mla if c.attention_type == "mla" else grouped
        y = attend(c, w, p + "self_attn.", x, ancestors, position, max_context)
        h = [a + b * residual for a, b in zip(h, y)]
        x = [norm(v, w[p + "post_attention_layernorm.weight"], c.rms_norm_eps) for v in h]
        ffn = dense if c.ffn_type == "vanilla" else sparse
        h = [a + ffn(c, w, p + "mlp.", v) * residual for a, v in zip(h, x)]
    hidden = np.stack([norm(v, w["model.norm.weight"], c.rms_norm_eps) for v in h])
    head = w["model.embed_tokens.weight"] if c.tie_word_embeddings else w["lm_head.weight"]
    return (hidden / (c.hidden_size / c.dim_model_base)) @ head.T, hidden


def norm(x, weight, eps):
    return x / math.sqrt(sum(v * v for v in x) / len(x) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def rope(c, x, position, max_context):
    """Channel i turns with channel i + R/2 by position * theta^(-2i/R)."""
    R = len(x)
    theta, scaling = c.rope_theta, c.rope_scaling or {}
    if scaling.get("type") == "linear":
        position = position / scaling["factor"]
    if scaling.get("type") == "dynamic" and max_context and max_context > c.max_position_embeddings:
        grown = scaling["factor"] * max_context / c.max_position_embeddings - (scaling["factor"] - 1)
        theta *= grown ** (R / (R - 2))
    out = np.zeros(R)
    for i in range(R // 2):
        angle = position * theta ** (-2 * i / R)
        a, b = x[i], x[i + R // 2]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + R // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def softmax_mix(query, keys, values):
    scores = np.array([query @ key for key in keys]) / math.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    return sum(a * v for a, v in zip(weights / weights.sum(), values))


def mla(c, w, p, x, ancestors, position, max_context):
    H, nope, v_dim = c.num_attention_heads, c.qk_nope_head_dim, c.hidden_size // c.num_attention_heads
    qk = nope + c.qk_rope_head_dim
    queries, keys, values = [], [], []
    for t, v in enumerate(x):
        q = w[p + "q_b_proj.weight"] @ norm(w[p + "q_a_proj.weight"] @ v, w[p + "q_a_layernorm.weight"], 1e-6)
        kv = w[p + "kv_a_proj_with_mqa.weight"] @ v
        latent = norm(kv[: c.kv_lora_rank], w[p + "kv_a_layernorm.weight"], 1e-6)
        shared = rope(c, kv[c.kv_lora_rank :], position[t], max_context)
        expanded = (w[p + "kv_b_proj.weight"] @ latent).reshape(H, nope + v_dim)
        queries.append([np.concatenate([q[h * qk : h * qk + nope],
                                        rope(c, q[h * qk + nope : (h + 1) * qk], position[t], max_context)])
                        for h in range(H)])
        keys.append([np.concatenate([expanded[h, :nope], shared]) for h in range(H)])
        values.append([expanded[h, nope:] for h in range(H)])
    return [w[p + "o_proj.weight"] @ np.concatenate([
        softmax_mix(queries[t][h], [keys[s][h] for s in seen], [values[s][h] for s in seen]) for h in range(H)])
        for t, seen in enumerate(ancestors)]


def grouped(c, w, p, x, ancestors, position, max_context):
    H, G, R = c.num_attention_heads, c.num_key_value_heads, c.hidden_size // c.num_attention_heads

    def heads(name, v, count):
        return (w[f"{p}{name}.weight"] @ v).reshape(count, R)

    queries = [[rope(c, q, position[t], max_context) for q in heads("q_proj", v, H)] for t, v in enumerate(x)]
    keys = [[rope(c, k, position[t], max_context) for k in heads("k_proj", v, G)] for t, v in enumerate(x)]
    values = [heads("v_proj", v, G) for v in x]
    return [w[p + "o_proj.weight"] @ np.concatenate([
        softmax_mix(queries[t][h], [keys[s][h * G // H] for s in seen], [values[s][h * G // H] for s in seen])
        for h in range(H)]) for t, seen in enumerate(ancestors)]


def dense(c, w, p, x):
    return w[p + "down_proj.weight"] @ (silu(w[p + "gate_proj.weight"] @ x) * (w[p + "up_proj.weight"] @ x))


def sparse(c, w, p, x):
    s = np.maximum(w[p + "router_proj.weight"] @ x, 0)
    if c.norm_after_router == "rms":
        a = norm(s, w[p + "router_norm.weight"], c.rms_norm_eps)
    elif c.norm_after_router == "sum":
        a = s / (s.sum() * c.norm_scale + 1e-5)
    else:
        a = s
    y = np.zeros(c.hidden_size)
    for e in range(c.num_experts):
        if s[e] != 0:
            y += a[e] * (w[p + "down_proj"][e] @ silu(w[p + "up_proj"][e] @ x))
    return y
