"""A recurrent draft head in float64, one token at a time, from its stored tensors or from the runner's file.

Written from the descriptions of both layouts on plain numpy arrays; it shares no code with training/, export/ or the runner.
"""

import struct

import numpy as np


def unit(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def from_tensors(stored, target, target_tensors):
    """The head as matrices that take hidden states and tokens: of its tensors and of its target's."""
    w = {name: tensor.double().numpy() for name, tensor in stored.items() if name not in ("successors", "successor_counts")}
    table = target_tensors["model.embed_tokens.weight"].double().numpy()
    lm_head = table if target.tie_word_embeddings else target_tensors["lm_head.weight"].double().numpy()
    R = len(w["none"])
    counts, flat = (stored[name].int().tolist() for name in ("successor_counts", "successors"))
    at, successors = 0, []
    for count in counts:
        successors.append(flat[at : at + count])
        at += count
    return {"hidden_in": w["hidden_in.weight"] * w["input_norm.weight"], "cell_in": w["cell_in.weight"],
            "cell_out": w["cell_out.weight"], "none": w["none"] / R**0.5, "eps": target.rms_norm_eps, "successors": successors,
            "token_in": unit(table * target.scale_emb) @ w["token_in.weight"].T,
            "token_out": unit(lm_head) @ w["token_out.weight"].T / R**0.5}


def from_file(path):
    """The same of a file for the runner, as export/draft_file.py describes it."""
    data = path.read_bytes()
    magic, fingerprint, V, D, R, M, N, eps, _ = struct.unpack_from("<8sQIIIIQfI", data)
    assert magic == b"BFDRAFT1"
    at, head = 64, {"eps": eps, "fingerprint": fingerprint}

    def part(dtype, count):
        nonlocal at
        at = -(-at // 64) * 64
        values = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    for name, rows, cols in (("hidden_in", R, D), ("cell_in", 2 * M, R), ("cell_out", R, M), ("none", 1, R), ("token_in", V, 2 * M),
                             ("token_out", V, R)):
        scales = part("<f4", rows).astype(np.float64)
        head[name] = scales[:, None] * part("i1", rows * cols).reshape(rows, cols)
    head["none"] = head["none"][0]
    starts, tokens = part("<u4", V + 1).tolist(), part("<i4", N).tolist()
    head["successors"] = [tokens[a:b] for a, b in zip(starts, starts[1:])]
    assert at == len(data)
    return head


def start(head, hidden):
    return head["hidden_in"] @ (hidden / np.sqrt((hidden * hidden).mean() + head["eps"]))


def advance(head, state, token):
    both = head["cell_in"] @ unit(state) + head["token_in"][token]
    gate, up = both[: len(both) // 2], both[len(both) // 2 :]
    return state + head["cell_out"] @ (gate / (1 + np.exp(-gate)) * up)


def log_p(head, state, token):
    """(log-probabilities of the token's successors, that of "none of them")."""
    rows = np.array([*(head["token_out"][y] for y in head["successors"][token]), head["none"]])
    z = rows @ unit(state)
    z = z - z.max() - np.log(np.exp(z - z.max()).sum())
    return z[:-1], z[-1]
