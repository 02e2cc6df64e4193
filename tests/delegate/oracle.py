"""Independent float64 oracle of the operators, with a bound on what float32 arithmetic may differ by.

Plain loops over unpacked weights; shares neither code nor layout with export/ or the kernels. Every
function takes and returns pairs (value, error): lists of float rows and the absolute error that a
float32 implementation may have at each element, whatever its order of summation.

Bounds   u = 2^-24, the relative error of one rounding. A sum of n products is off by at most n*u*sum|products|
         (Higham, Accuracy and Stability of Numerical Algorithms, equation 3.5); errors of inputs go through
         the derivative. Terms of second order are covered by the slack in the constants.
Quantized  int8 rows of activations are q = round(x * (127 / max|x|)), multiplied exactly as integers. Where x
         itself carries an error, a value near a tie may round either way: such an element, and only such
         a one, widens the bound by one step times its weight.
Lanes    an int4 kernel may sum a group in several lanes, each with its part of the products plus at most half
         of the offset 8 that the others' weights carry: 4 * scale * |x| a column, where the group's largest
         weight is 8 * scale.
Weights  are given as the exact numbers that the packed file must represent, so that the oracle need not quantize.
"""

import math

import numpy as np

U = 2.0**-24
SMALLEST = 2.0**-126  # results below may be flushed or subnormal


def zeros_like(rows):
    return [[0.0] * len(row) for row in rows]


def rows(tensor):
    """Rows of a 2-D tensor or array as Python floats."""
    return [[float(v) for v in row] for row in np.asarray(tensor, dtype=np.float64)]


def quantize_row(x, error):
    """One activation row -> (q, step, possible flips of each q in steps, relative error of the step)."""
    peak = max(abs(v) for v in x)
    if peak < 1e-36:
        return [0] * len(x), 0.0, [0] * len(x), 0.0
    if not any(error):  # then float32 arithmetic is prescribed to the bit
        inverse = np.float32(127) / np.float32(peak)
        q = [round(float(np.float32(v) * inverse)) for v in x]
        return q, float(np.float32(peak) / np.float32(127)), [0] * len(x), 0.0
    relative = max(error) / peak
    q, flips = [], []
    for v, e in zip(x, error, strict=True):
        scaled = 127 * v / peak
        q.append(round(scaled))
        from_tie = abs(abs(scaled - math.floor(scaled)) - 0.5)
        flips.append(1 if from_tie <= 127 * e / peak + abs(scaled) * (relative + 4 * U) else 0)
    return q, peak / 127, flips, relative + 2 * U


def matmul(x, x_error, weight, quant, groups=1):
    """x [T][K] times weight [N][K] transposed; groups = scales per weight row, 1 or ceil(K / 32)."""
    values, errors = [], []
    lanes = [lane_weights(w) for w in weight] if groups > 1 else weight
    for row, row_error in zip(x, x_error, strict=True):
        value, error = [], []
        if quant == "fp32":
            for w in weight:
                products = [a * b for a, b in zip(w, row, strict=True)]
                value.append(sum(products))
                propagated = sum(abs(a) * e for a, e in zip(w, row_error, strict=True))
                error.append(propagated + (len(row) + 2) * U * sum(map(abs, products)))
        else:
            q, step, flips, relative = quantize_row(row, row_error)
            width = 32 if groups > 1 else len(row)
            for w, lane in zip(weight, lanes, strict=True):
                partial = [
                    sum(a * b for a, b in zip(w[k : k + width], q[k : k + width], strict=True))
                    for k in range(0, len(row), width)
                ]
                value.append(step * sum(partial))
                parts = [a * abs(b) for a, b in zip(lane, q, strict=True)] if groups > 1 else map(abs, partial)
                magnitude = step * sum(parts)
                flipped = step * sum(abs(a) * f for a, f in zip(w, flips, strict=True))
                error.append(flipped + relative * (magnitude + flipped) + (len(partial) + 6) * U * magnitude)
        values.append(value)
        errors.append(error)
    return values, errors


def lane_weights(w):
    """Largest contribution of each column to the lanes of its group of 32, per unit of |x|: see Lanes above."""
    return [abs(v) + max(map(abs, w[k : k + 32])) / 2 for k in range(0, len(w), 32) for v in w[k : k + 32]]


def stored(part, error, kv_quant):
    """A part of a cache row as it is kept: exact, or an int8 row with a step of its own."""
    if kv_quant == "fp32":
        return part, error
    q, step, flips, relative = quantize_row(part, error)
    value = [step * v for v in q]
    return value, [step * f + relative * (abs(v) + step * f) + 2 * U * abs(v) for v, f in zip(value, flips, strict=True)]


def linear(x, weight, quant, scale=1.0, bias=None):
    """scale * (x weight^T) + bias, of exact inputs."""
    y, error = matmul(x, zeros_like(x), weight, quant, groups_of(weight, quant))
    for t in range(len(y)):
        for n in range(len(y[t])):
            value = scale * y[t][n]
            total = value + (bias[n] if bias is not None else 0.0)
            error[t][n] = abs(scale) * error[t][n] + 3 * U * abs(value) + U * abs(total)
            y[t][n] = total
    return y, error


def groups_of(weight, quant):
    return -(-len(weight[0]) // 32) if quant == "int4" else 1


def embedding(ids, table, scale):
    """Rows of the table, times scale."""
    y = [[v * scale for v in table[i]] for i in ids]
    return y, [[3 * U * abs(v) for v in row] for row in y]


def rms_norm(x, x_error, weight, eps):
    y, error = [], []
    for row, row_error in zip(x, x_error, strict=True):
        square = sum(v * v for v in row)
        inverse = 1 / math.sqrt(square / len(row) + eps)
        relative = sum(abs(v) * e for v, e in zip(row, row_error, strict=True)) / (square + len(row) * eps) + 2 * U
        y.append([v * inverse * w for v, w in zip(row, weight, strict=True)])
        error.append(
            [
                abs(w) * inverse * e + abs(r) * (relative + 4 * U)
                for w, e, r in zip(weight, row_error, y[-1], strict=True)
            ]
        )
    return y, error


def silu(z):
    return z / (1 + math.exp(-z)) if z > -700 else 0.0


def silu_mul(gate, up):
    y = [[silu(g) * u for g, u in zip(*pair, strict=True)] for pair in zip(gate, up, strict=True)]
    return y, [[8 * U * abs(v) + SMALLEST for v in row] for row in y]


def add(a, b):
    y = [[p + q for p, q in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]
    return y, [[U * abs(v) for v in row] for row in y]


def chunk_sparse_ffn(x, router, router_norm, up, down, norm, eps, norm_scale, out_scale, quant):
    """-> (y, bound, union size). The router must be decided: no score may lie within its own error of zero."""
    router_quant = "fp32" if quant == "fp32" else "int8"
    raw, raw_error = matmul(x, zeros_like(x), router, router_quant)
    experts, hidden = len(router), len(x[0])
    y, bound, union = [], [], set()
    for t, row in enumerate(x):
        for score, e in zip(raw[t], raw_error[t], strict=True):
            assert score == 0 or abs(score) > e, "an undecided router score: choose another seed"
        active = [e for e in range(experts) if raw[t][e] > 0]
        union |= set(active)
        scores = {e: raw[t][e] for e in active}
        if norm == "rms":
            square = sum(s * s for s in scores.values())
            factor = 1 / math.sqrt(square / experts + eps)
            relative = sum(s * raw_error[t][e] for e, s in scores.items()) / (square + experts * eps)
        elif norm == "sum":
            total = sum(scores.values()) * norm_scale + 1e-5
            factor = 1 / total
            relative = abs(norm_scale) * sum(raw_error[t][e] for e in active) / total
        else:
            factor, relative = 1.0, 0.0
        value, error, magnitude = [0.0] * hidden, [0.0] * hidden, [0.0] * hidden
        for e in active:
            a = scores[e] * factor * (router_norm[e] if norm == "rms" else 1.0) * out_scale
            a_relative = raw_error[t][e] / scores[e] + relative + 8 * U
            z, z_error = matmul([row], [[0.0] * hidden], up[e], quant, groups_of(up[e], quant))
            h = [silu(v) for v in z[0]]
            h_error = [1.1 * d + 8 * U * abs(v) + SMALLEST for v, d in zip(h, z_error[0], strict=True)]
            out, out_error = matmul([h], [h_error], down[e], quant, groups_of(down[e], quant))
            for d in range(hidden):
                term = a * out[0][d]
                value[d] += term
                magnitude[d] += abs(term)
                error[d] += abs(a) * out_error[0][d] + abs(term) * a_relative
        y.append(value)
        bound.append([e + (len(active) + 4) * U * m for e, m in zip(error, magnitude, strict=True)])
    return y, bound, len(union)


def rotate(x, x_error, position, inv_freq):
    """Rotary embedding of one head's row, rotate-half. The angle itself is rounded to float32."""
    half = len(x) // 2
    value, error = [0.0] * len(x), [0.0] * len(x)
    for k in range(half):
        angle = position * inv_freq[k]
        c, s = math.cos(angle), math.sin(angle)
        a, b = x[k], x[k + half]
        value[k], value[k + half] = a * c - b * s, b * c + a * s
        slack = (abs(a) + abs(b)) * (U * abs(angle) + 6 * U) + x_error[k] + x_error[k + half]
        error[k] = error[k + half] = slack
    return value, error


def attend(query, query_error, keys, key_errors, values, value_errors, scale):
    """Softmax attention of one head of one token over the rows it sees."""
    n = len(keys)
    scores, score_error = [], 0.0
    for k, e in zip(keys, key_errors, strict=True):
        products = [a * b for a, b in zip(query, k, strict=True)]
        scores.append(scale * sum(products))
        propagated = sum(abs(a) * d + abs(b) * c for a, b, c, d in zip(query, k, query_error, e, strict=True))
        score_error = max(score_error, scale * (propagated + (len(k) + 4) * U * sum(map(abs, products))))
    score_error += 4 * U * max(map(abs, scores))
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    total = sum(weights)
    relative = 2.2 * score_error + (2 * n + 12) * U
    out, bound = [], []
    for j in range(len(values[0])):
        out.append(sum(w * v[j] for w, v in zip(weights, values, strict=True)) / total)
        magnitude = sum(w * abs(v[j]) for w, v in zip(weights, values, strict=True)) / total
        carried = sum(w * e[j] for w, e in zip(weights, value_errors, strict=True)) / total
        bound.append(relative * magnitude + carried)
    return out, bound


class GqaOracle:
    """Attention of a sequence of tokens, each of which sees the listed earlier ones and itself."""

    def __init__(self, heads, kv_heads, inv_freq, kv_quant="fp32"):
        self.heads, self.kv_heads, self.inv_freq, self.kv_quant = heads, kv_heads, inv_freq, kv_quant
        self.width = 2 * len(inv_freq)
        self.keys, self.values = {}, {}

    def _split(self, row, heads):
        return [row[h * self.width : (h + 1) * self.width] for h in range(heads)]

    def token(self, name, q, k, v, position, sees):
        """Output row of one token; `sees` lists the names of the earlier tokens in its context."""
        no_error = [0.0] * self.width
        rotated = [rotate(x, no_error, position, self.inv_freq) for x in self._split(k, self.kv_heads)]
        self.keys[name] = [stored(*x, self.kv_quant) for x in rotated]
        self.values[name] = [stored(x, no_error, self.kv_quant) for x in self._split(v, self.kv_heads)]
        out, bound = [], []
        for h, x in enumerate(self._split(q, self.heads)):
            g = h * self.kv_heads // self.heads
            seen = [*sees, name]
            query, error = rotate(x, no_error, position, self.inv_freq)
            y, e = attend(
                query,
                error,
                [self.keys[s][g][0] for s in seen],
                [self.keys[s][g][1] for s in seen],
                [self.values[s][g][0] for s in seen],
                [self.values[s][g][1] for s in seen],
                self.width**-0.5,
            )
            out += y
            bound += e
        return out, bound


class MlaOracle:
    """The same for latent attention with absorb [H][latent][nope] and expand [H][v][latent]."""

    def __init__(self, heads, nope, inv_freq, kv_norm, eps, absorb, expand, quant, kv_quant="fp32"):
        self.kv_quant = kv_quant
        self.heads, self.nope, self.inv_freq, self.kv_norm, self.eps = heads, nope, inv_freq, kv_norm, eps
        self.absorb, self.expand, self.quant = absorb, expand, quant
        self.rope, self.latent = 2 * len(inv_freq), len(kv_norm)
        self.cache = {}

    def token(self, name, q, kv, position, sees):
        latent, latent_error = rms_norm([kv[: self.latent]], [[0.0] * self.latent], self.kv_norm, self.eps)
        key, key_error = rotate(kv[self.latent :], [0.0] * self.rope, position, self.inv_freq)
        parts = [stored(latent[0], latent_error[0], self.kv_quant), stored(key, key_error, self.kv_quant)]
        self.cache[name] = parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
        seen = [self.cache[s] for s in [*sees, name]]
        keys, key_errors = [k for k, _ in seen], [e for _, e in seen]
        width = self.nope + self.rope
        out, bound = [], []
        for h in range(self.heads):
            x = q[h * width : (h + 1) * width]
            absorbed, absorbed_error = matmul(
                [x[: self.nope]], [[0.0] * self.nope], self.absorb[h], self.quant, groups_of(self.absorb[h], self.quant)
            )
            rotated, rotated_error = rotate(x[self.nope :], [0.0] * self.rope, position, self.inv_freq)
            context, context_error = attend(
                absorbed[0] + rotated,
                absorbed_error[0] + rotated_error,
                keys,
                key_errors,
                [k[: self.latent] for k in keys],
                [e[: self.latent] for e in key_errors],
                width**-0.5,
            )
            y, e = matmul([context], [context_error], self.expand[h], self.quant, groups_of(self.expand[h], self.quant))
            out += y[0]
            bound += e[0]
        return out, bound


def mismatches(got, want, bound):
    """Number of elements of `got` that are not within `bound` of `want`; NaN and a wrong shape never are."""
    got, want, bound = (np.asarray(a, dtype=np.float64) for a in (got, want, bound))
    assert got.shape == want.shape == bound.shape, f"shapes {got.shape}, {want.shape}, {bound.shape}"
    return int((~(abs(got - want) <= bound)).sum())


def check(got, want, bound):
    """Asserts every element, and that the bound would notice a real error: it is far below the values."""
    wrong = mismatches(got, want, bound)
    worst = np.max(abs(np.asarray(got, dtype=np.float64) - np.asarray(want)) - np.asarray(bound))
    assert wrong == 0, (
        f"{wrong} of {np.size(want)} elements differ from the oracle; the worst exceeds its bound by {worst:.3g}"
    )
    size = math.sqrt(np.mean(np.square(want)))
    assert size == 0 or np.median(bound) < 1e-3 * size, "the bound is too wide to prove anything"
