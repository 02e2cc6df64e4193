"""Runs a saved Core ML package as a session: chunks of 1 to 64 tokens, through the interpreter.

It does what an app does with Core ML: a chunk is padded to the next length that the package declares, the states live
between calls, and a chunk whose experts did not fit is computed again by the dense function of the same package. That
function takes chunks at once that are longer than those the room for experts was chosen for.

Axes    T tokens of a chunk, V vocabulary, D hidden.
Errors  as runtime_delegates/chunks.py.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export.coreml_compress import Compression
from export.coreml_decoder import CoreMLDecoder
from export.mil_interpreter import MilInterpreter, load_program
from export.ops import MAX_TOKENS
from runtime_delegates.chunks import FORMAT_VERSION, ChunkSession

INPUTS = ("token_ids", "positions", "n_past", "tree_mask", "kv_src")
DENSE_FUNCTION = "dense"
GATHER_CHECKED = 64  # tokens of every held-out text that the function of gathered experts computes


def chunk_inputs(inputs: tuple[Tensor, ...], length: int) -> dict[str, Tensor]:
    """The .pte's inputs as those of a Core ML model for `length` tokens: int32, the mask as a matrix. Padding repeats the
    last token, at its place: it computes the same and uses no other experts."""
    token_ids, positions, n_past, tree_mask, kv_src = inputs[:5]
    tokens = len(positions)
    row_T = torch.arange(length).clamp(max=tokens - 1)
    mask_TW = (tree_mask[row_T, None] >> torch.arange(MAX_TOKENS)) & 1
    return {name: value.int() for name, value in zip(
        INPUTS, (token_ids[:, row_T], positions[row_T], n_past, mask_TW, kv_src), strict=True)}


class CoreMLSession(ChunkSession):
    """One package and its states.

    gathered    chunks that the function of gathered experts has run
    overflows   of them, those that needed more experts and were computed again by the dense function
    """

    def __init__(self, package: Path, metadata: dict | None = None):
        """metadata: of a .pte, whose package has none."""
        loaded = load_program(package)
        self._main = MilInterpreter(package, loaded=loaded)
        metadata = metadata or {key: json.loads(value) for key, value in self._main.metadata.items() if key.startswith(("get_", "use_"))}
        if metadata.get("get_blockffn_format_version") != FORMAT_VERSION:
            raise RuntimeError(f"{package}: not a package of format version {FORMAT_VERSION}; export the checkpoint again "
                               "with export/to_coreml.py")
        self._dense = None
        self.gather_chunk = metadata.get("get_gather_chunk", 0)
        if self.gather_chunk:
            self._dense = MilInterpreter(package, DENSE_FUNCTION, loaded, self._main.states)
        self.lengths = [shape[0] for shape in self._main.shapes["positions"]]
        self.max_chunk, self.max_context = max(self.lengths), metadata["get_max_context_len"]
        self.vocab_size = metadata["get_vocab_size"]
        self.bos_id = metadata["get_bos_id"] if metadata["get_bos_id"] >= 0 else None
        self.eos_ids = [i for i in metadata["get_eos_ids"] if i >= 0]
        self.gathered = self.overflows = 0
        self.reset()

    def check_length(self, start: int) -> int:
        """Of a chunk from token `start` of a text whose perplexity is measured: both functions get their share."""
        return self.gather_chunk if self._dense is not None and start < GATHER_CHECKED else self.max_chunk

    def figures(self) -> dict:
        """For the JSON line of an export."""
        return {} if self._dense is None else {"chunks": self.steps, "gathered_chunks": self.gathered,
                                               "overflowed_chunks": self.overflows}

    def reset(self) -> None:
        super().reset()
        self._main.reset()

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        tokens = len(inputs[1])
        length = min(n for n in self.lengths if n >= tokens)
        arrays = {name: value.numpy() for name, value in chunk_inputs(inputs, length).items()}
        if self._dense is not None and tokens > self.gather_chunk:
            outputs = self._dense.run(arrays)
        else:
            outputs = self._main.run(arrays)
            self.gathered += self._dense is not None
            if self._dense is not None and outputs["overflow"][0] > 0:
                self.overflows += 1
                arrays["kv_src"] = np.full_like(arrays["kv_src"], -1)  # the first run has moved the rows
                outputs = self._dense.run(arrays)
        logits, hidden = list(outputs.values())[:2]  # ExecuTorch gives them names of its own
        return torch.from_numpy(logits[:, :tokens]), torch.from_numpy(hidden[:, :tokens])


class EagerDecoder:
    """A CoreMLDecoder in float32 that takes the .pte's inputs, with the weights as a package holds them."""

    def __init__(self, decoder: CoreMLDecoder, compression: Compression | None = None) -> None:
        """compression None: the checkpoint's own weights. `decoder` is changed."""
        self.decoder, self.config = decoder.eval(), decoder.config
        self.quant = "fp32" if compression is None else "fp16"
        if compression is not None:
            for name, weight in decoder.matrices().items():
                weight.data = weight.half().float() if compression.quant == "fp16" else compression.of(name).dense()

    def reset(self) -> None:
        self.decoder.reset()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(*chunk_inputs(inputs, len(inputs[1])).values())[:2]
