"""A published draft head in float64, one row and one attention head at a time: the oracle of the draft tests.

Written from the layout's description on plain numpy arrays of the stored tensors; it shares no code with
training/, export/ or the kernels. A row attends to its ancestors: `parents[t]` is the row before t.
"""

import numpy as np

from tests.export.model_oracle import norm, rope, silu, softmax_mix


class _Rope:
    """What model_oracle.rope asks of a configuration."""

    def __init__(self, target):
        self.rope_theta, self.rope_scaling = target.rope_theta, target.rope_scaling
        self.max_position_embeddings = target.max_position_embeddings


def forward(sizes, stored, target, target_tensors, token_ids, hidden, parents=None, max_context=None):
    """(logits [T, W], h [T, D]). sizes is the head's config.json, stored its tensors by stored name, target the
    target's ModelConfig; hidden [T, D] are the second inputs. parents default to the chain -1, 0, 1, ..."""
    w = {name: tensor.double().numpy() for name, tensor in stored.items()}
    table = target_tensors["model.embed_tokens.weight"].double().numpy()
    head = table if target.tie_word_embeddings else target_tensors["lm_head.weight"].double().numpy()
    D, eps = target.hidden_size, target.rms_norm_eps
    H, G, R = (sizes[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    T = len(token_ids)
    parents = list(range(-1, T - 1)) if parents is None else parents
    paths = []
    for t in range(T):
        paths.append((paths[parents[t]] if parents[t] >= 0 else []) + [t])
    x = []
    for token, state in zip(token_ids, np.asarray(hidden, dtype=np.float64)):
        left = w["fc.weight"][:, :D] @ norm(table[token] * target.scale_emb, w["input_norm1.weight"], eps)
        right = w["fc.weight"][:, D:] @ norm(state, w["input_norm2.weight"], eps)
        x.append(left + right + w["fc.bias"])
    for layer in range(sizes["num_hidden_layers"]):
        p = f"layers.{layer}."
        inner = x if layer == 0 else [norm(v, w[p + "input_layernorm.weight"], eps) for v in x]
        q, k, v = ([(w[f"{p}self_attn.{n}_proj.weight"] @ row).reshape(count, R) for row in inner]
                   for n, count in (("q", H), ("k", G), ("v", G)))
        turned = _Rope(target)
        q = [[rope(turned, one, len(path) - 1, max_context) for one in rows] for rows, path in zip(q, paths)]
        k = [[rope(turned, one, len(path) - 1, max_context) for one in rows] for rows, path in zip(k, paths)]
        for t, path in enumerate(paths):
            mixed = [softmax_mix(q[t][h], [k[s][h * G // H] for s in path], [v[s][h * G // H] for s in path])
                     for h in range(H)]
            x[t] = x[t] + w[p + "self_attn.o_proj.weight"] @ np.concatenate(mixed)
        for t in range(T):
            y = norm(x[t], w[p + "post_attention_layernorm.weight"], eps)
            gated = silu(w[p + "mlp.gate_proj.weight"] @ y) * (w[p + "mlp.up_proj.weight"] @ y)
            x[t] = x[t] + w[p + "mlp.down_proj.weight"] @ gated
    h = np.stack(x)
    rows = [head[i] for i in stored["token_id_remap"].tolist()]
    return np.stack([[row @ state for row in rows] for state in h / (D / target.dim_model_base)]), h
