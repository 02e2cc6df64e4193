"""A draft head as it is exported: rows of a tree of candidates through `blockffn::` operators and a key/value cache.

Row t is made of token t + 1 and of the hidden state of token t (training/draft.py). After rows of
committed tokens, whose hidden states are the target's, a tree of candidates grows over several calls:
each call adds one level, with h of the rows before in place of the target's hidden states. Nothing is
computed twice: tree_rows says how many of the n_past rows belong to the tree already, and the bits of
tree_mask begin with them. The next cycle starts at an n_past without the tree.

Axes    T rows of a call (1..64), D hidden, W draft vocabulary.
Inputs  see the "Chunk" paragraph of export/ops.py.
"""

import torch
from torch import Tensor, nn

from export.decoder import DenseFFN, GqaAttention, _Weights, checked_context, rope_frequencies
from export.ops import MAX_TOKENS
from training.draft import REMAP
from training.draft_files import fingerprint

ops = torch.ops.blockffn
DRAFT_VERSION = 1  # of the program's inputs, outputs and metadata; the runtime refuses others


class DraftLayer(nn.Module):
    """x += attention(norm(x)), without that norm in layer 0; x += ffn(norm(x))."""

    def __init__(self, config, weights: _Weights, index: int, max_context: int, quant: str) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.input_layernorm = weights("input_layernorm.weight") if index else None
        self.self_attn = GqaAttention(config, weights.under("self_attn"), max_context, quant)
        self.post_attention_layernorm = weights("post_attention_layernorm.weight")
        self.mlp = DenseFFN(config, weights.under("mlp"), quant)

    def forward(self, x_TD: Tensor, inv_freq: Tensor, chunk: tuple, tree_rows: Tensor, add) -> Tensor:
        normed = x_TD if self.input_layernorm is None else ops.rms_norm(x_TD, self.input_layernorm, self.eps)
        x_TD = ops.add(x_TD, self.self_attn(normed, inv_freq, chunk, 1.0, tree_rows))
        return add(x_TD, self.mlp(ops.rms_norm(x_TD, self.post_attention_layernorm, self.eps), 1.0))


class DraftDecoder(nn.Module):
    """One call of a draft head.

    forward(token_ids [1, T], hidden [1, T, D], positions [T], n_past [1], tree_mask [T], kv_src [64],
    logits_start [1], tree_rows [1]) -> (logits [1, T, W] over the draft vocabulary, h [1, T, D]); hidden
    is float32, the rest int64.

    draft and target are opened by training.draft_files and training.checkpoint. Raises ValueError for an
    unknown quant or a context shorter than one chunk.
    """

    def __init__(self, draft, target, quant: str = "fp32", max_context: int | None = None) -> None:
        super().__init__()
        config = draft.config
        self.config, self.quant, self.max_context = config, quant, checked_context(config, quant, max_context)
        weights, tensors, D = _Weights(draft.tensors), target.tensors, config.hidden_size
        self.token_id_remap = draft.tensors[REMAP].long()
        self.fingerprint = fingerprint(tensors, target.config)
        self.input_norm1, self.input_norm2 = weights("input_norm1.weight"), weights("input_norm2.weight")
        # Two products instead of one of a concatenation: each half is quantized by its own largest value.
        fc = draft.tensors["fc.weight"]
        self.fc_embedding, self.fc_hidden = (
            nn.Parameter(half.contiguous(), requires_grad=False) for half in (fc[:, :D], fc[:, D:]))
        self.fc_bias = weights("fc.bias")
        self.layers = nn.ModuleList(
            DraftLayer(config, weights.under(f"layers.{i}"), i, self.max_context, quant)
            for i in range(config.num_hidden_layers)
        )
        self.embed_tokens = nn.Parameter(tensors["model.embed_tokens.weight"], requires_grad=False)
        head = "model.embed_tokens.weight" if target.config.tie_word_embeddings else "lm_head.weight"
        self.lm_head = nn.Parameter(tensors[head][self.token_id_remap], requires_grad=False)
        self.register_buffer("inv_freq", rope_frequencies(config, self.max_context))
        self.logits_scale = config.dim_model_base / D

    def forward(
        self,
        token_ids: Tensor,
        hidden: Tensor,
        positions: Tensor,
        n_past: Tensor,
        tree_mask: Tensor,
        kv_src: Tensor,
        logits_start: Tensor,
        tree_rows: Tensor,
    ) -> tuple[Tensor, Tensor]:
        chunk, eps = (positions, n_past, tree_mask, kv_src), self.config.rms_norm_eps
        e_TD = ops.embedding(token_ids, self.embed_tokens, float(self.config.scale_emb), self.quant)
        e_TD = ops.rms_norm(e_TD, self.input_norm1, eps)
        g_TD = ops.hidden_norm(hidden, self.input_norm2, eps)
        x_TD = ops.add(
            ops.linear(e_TD, self.fc_embedding, self.fc_bias, 1.0, self.quant),
            ops.linear(g_TD, self.fc_hidden, None, 1.0, self.quant),
        )
        for layer in self.layers:
            last = layer is self.layers[-1]
            x_TD = layer(x_TD, self.inv_freq, chunk, tree_rows, ops.final_add if last else ops.add)
        return ops.logits(x_TD, self.lm_head, logits_start, self.logits_scale, self.quant), x_TD

    def example(self) -> tuple[tuple[Tensor, ...], tuple]:
        """(inputs, dynamic shapes) for torch.export. T = 2 or it would be specialised."""
        tokens = torch.export.Dim("tokens", min=1, max=MAX_TOKENS)
        inputs = draft_chunk([0, 0], torch.zeros(2, self.config.hidden_size))
        return inputs, ({1: tokens}, {1: tokens}, {0: tokens}, None, {0: tokens}, None, None, None)

    def metadata(self) -> dict:
        """Constant methods of the program. It lacks a target's, so that no runtime takes it for one."""
        return {
            "get_blockffn_draft_version": DRAFT_VERSION,
            "get_max_seq_len": MAX_TOKENS,
            "get_max_context_len": self.max_context,
            "get_vocab_size": self.config.vocab_size,
            "get_draft_vocab_size": len(self.token_id_remap),
            "get_hidden_size": self.config.hidden_size,
            "get_token_id_remap": self.token_id_remap,
            "get_target_fingerprint": self.fingerprint,
        }

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets the context."""
        for name, buffer in self.named_buffers():
            if name.endswith("cache"):
                buffer.zero_()


def draft_chunk(token_ids: list[int], hidden_TD: Tensor, n_past: int = 0, tree_rows: int = 0,
                positions: list[int] | None = None, tree_mask: list[int] | None = None,
                logits_start: int = 0) -> tuple[Tensor, ...]:
    """Inputs of DraftDecoder.forward; by default a chain after n_past rows."""
    tokens = len(token_ids)
    if positions is None:
        positions = list(range(n_past, n_past + tokens))
    if tree_mask is None:
        tree_mask = [(1 << (tree_rows + i + 1)) - 1 for i in range(tokens)]
    signed = [mask - (1 << 64) if mask >> 63 else mask for mask in tree_mask]
    return (
        torch.tensor([token_ids]),
        hidden_TD[None].float().contiguous(),
        torch.tensor(positions),
        torch.tensor([n_past]),
        torch.tensor(signed),
        torch.full((MAX_TOKENS,), -1),
        torch.tensor([logits_start]),
        torch.tensor([tree_rows]),
    )
