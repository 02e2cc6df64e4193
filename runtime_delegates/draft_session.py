"""Runs an exported draft head call by call: rows of committed tokens, then a tree that grows level by level.

Axes    T rows of a call, D hidden, W draft vocabulary.
Errors  RuntimeError for a file that cannot be loaded or a call that failed; one sentence that names the fix.
Source  export/draft_decoder.py (inputs), export/ops.py (tree_rows and tree_mask).
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from runtime_delegates.chunks import KV_SRC_LEN
from runtime_delegates.session import LoadedProgram

DRAFT_VERSION = 1  # of the draft programs this runtime can run


class DraftSession:
    """One loaded head and its cache.

    token_id_remap   [W] token of each entry of the draft vocabulary
    fingerprint      of the target that it was made for, as `get_model_fingerprint` of that program
    """

    def __init__(self, pte_path: str | os.PathLike, threads: int | None = None, lib: str | os.PathLike | None = None):
        self._loaded = program = LoadedProgram(pte_path, threads, lib)
        self.path, self.backend = program.path, program.backend
        program.check_version("get_blockffn_draft_version", DRAFT_VERSION, "a draft head")
        self.max_context = program.constant("get_max_context_len")
        self.vocab_size = program.constant("get_vocab_size")
        self.hidden_size = program.constant("get_hidden_size")
        self.token_id_remap = torch.tensor(program.constants("get_token_id_remap"))
        self.fingerprint = program.constant("get_target_fingerprint")
        self._forward = program.load_method("forward")

    def step(self, token_ids: list[int], hidden_TD: Tensor, n_past: int, tree_rows: int = 0,
             positions: list[int] | None = None, tree_mask: list[int] | None = None,
             logits_start: int = 0) -> tuple[Tensor, Tensor]:
        """(logits [T, W], h [T, D]). By default the rows are a chain after n_past others; see export/ops.py."""
        tokens = len(token_ids)
        positions = range(n_past, n_past + tokens) if positions is None else positions
        masks = [(1 << max(tree_rows + i + 1, 0)) - 1 for i in range(tokens)] if tree_mask is None else tree_mask
        inputs = (
            torch.tensor([token_ids]), hidden_TD[None].float().contiguous(), torch.tensor(list(positions)),
            torch.tensor([n_past]),
            torch.from_numpy(np.array([m % 2**64 for m in masks], dtype=np.uint64).view(np.int64)),
            torch.full((KV_SRC_LEN,), -1), torch.tensor([logits_start]), torch.tensor([tree_rows]),
        )
        logits_1TW, h_1TD = self._loaded.call(self._forward, inputs)
        return logits_1TW[0], h_1TD[0]
