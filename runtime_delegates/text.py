"""Text on top of token ids, for whatever runs the model: prompts, tokenizers, stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from training.tokenizer import Tokenizer, load_tokenizer


class ContextFull(ValueError):
    """The tokens do not fit into what is left of the context."""


class Model(Protocol):
    """What a Session and a Runner have in common."""

    path: Path
    max_context: int
    vocab_size: int
    bos_id: int | None


class StopFilter:
    """Passes text on until a stop string appears; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that can be shown; after a stop string was seen, nothing."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What is still held back; call once at the end."""
        shown, self._held = self._held, ""
        return shown


def encode_prompt(model: Model, tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of the prompt after the model's bos; ContextFull if they leave no room for a new token."""
    ids = ([] if model.bos_id is None else [model.bos_id]) + tokenizer.encode(text)
    if len(ids) > model.max_context:
        raise ContextFull(f"the prompt has {len(ids)} tokens, the program's max_context is {model.max_context}: "
                          "shorten the prompt, or export with a larger --max-context")
    return ids


def find_tokenizer(model: Model, path: Path | None) -> Tokenizer:
    """The tokenizer of `path`, else the one beside the program; ValueError if it is not this model's."""
    try:
        tokenizer = load_tokenizer(model.path.parent if path is None else path)
    except ValueError as error:
        raise ValueError(f"{error} (or name it with --tokenizer)" if path is None else str(error)) from None
    if tokenizer.vocab_size > model.vocab_size:
        raise ValueError(f"{tokenizer.path}: {tokenizer.vocab_size} tokens, but the program knows "
                         f"{model.vocab_size}; name the model's own tokenizer with --tokenizer")
    return tokenizer
