"""Tokenizers: load a checkpoint's own, train a byte-level BPE, decode a stream.

`tokenizer.json` is read by the `tokenizers` library, SentencePiece's `tokenizer.model` by
`sentencepiece`; both give one small interface.  Text is never parsed for special tokens: an HTML
page that contains `</s>` must not end a document.  Nothing is added either; callers place bos/eos.

Units   a token id is an int in [0, vocab_size).
Errors  ValueError names the file and the fix.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as _JsonTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2 of tokenizers trained here
MAX_PENDING_TOKENS = 8  # a UTF-8 character has at most 4 bytes, so a longer wait is for bytes that are broken
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """One interface over both libraries; see `load_tokenizer`."""

    def __init__(self, backend, path: Path, bos_id: int | None, eos_ids: list[int], vocab_size: int):
        self._backend = backend
        self.path = path  # the file it was loaded from
        self.bos_id = bos_id
        self.eos_ids = eos_ids
        self.vocab_size = vocab_size  # highest id + 1

    @property
    def is_sentencepiece(self) -> bool:
        return not isinstance(self._backend, _JsonTokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: no special tokens are added and none are recognised in it."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As encode, for many texts: `tokenizers` uses all cores (see TOKENIZERS_PARALLELISM)."""
        if self.is_sentencepiece:
            return self._backend.encode(list(texts), out_type=int)
        return [item.ids for item in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens and ids outside the vocabulary give nothing."""
        if not self.is_sentencepiece:
            return self._backend.decode(list(ids), skip_special_tokens=True)
        sp = self._backend
        return sp.decode([i for i in ids if 0 <= i < self.vocab_size and not sp.is_control(i)])


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Tokenizer of a checkpoint directory, or of one tokenizer.json / tokenizer.model file.

    bos and eos come from the first that says so: generation_config.json, config.json,
    tokenizer_config.json beside it; the SentencePiece model; the tokens <s> and </s>.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("tokenizer.json", "tokenizer.model") if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path}: no tokenizer.json or tokenizer.model; copy the model's tokenizer files there")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a tokenizer.json, a tokenizer.model or their directory")
    if path.suffix == ".model":
        return _load_sentencepiece(path)
    try:
        backend = _JsonTokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{path}: not a tokenizer.json of the tokenizers library ({error})") from None
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True  # spell special tokens in text out instead of recognising them
    vocab = backend.get_vocab(with_added_tokens=True)
    bos, eos = _special_ids(path.parent, vocab)
    bos = vocab.get("<s>") if bos is None else bos
    eos = [vocab[token] for token in ("</s>",) if token in vocab] if eos is None else eos
    return Tokenizer(backend, path, bos, eos, max(vocab.values(), default=-1) + 1)


def _load_sentencepiece(path: Path) -> Tokenizer:
    import sentencepiece  # only SentencePiece checkpoints need it

    try:
        backend = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{path}: not a SentencePiece model ({error})") from None
    vocab = {backend.id_to_piece(i): i for i in range(backend.get_piece_size())}
    bos, eos = _special_ids(path.parent, vocab)
    if bos is None and backend.bos_id() >= 0:
        bos = backend.bos_id()
    if eos is None:
        eos = [backend.eos_id()] if backend.eos_id() >= 0 else []
    return Tokenizer(backend, path, bos, eos, backend.get_piece_size())


def _special_ids(directory: Path, vocab: dict[str, int]) -> tuple[int | None, list[int] | None]:
    """(bos, eos list) that the files beside a tokenizer declare; None where none does."""
    bos = eos = None
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        if not (directory / name).is_file():
            continue
        try:
            values = json.loads((directory / name).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{directory / name}: not valid JSON ({error})") from None
        if not isinstance(values, dict):
            raise ValueError(f"{directory / name}: expected a JSON object")
        declared = {}
        for key in ("bos", "eos"):
            declared[key] = values.get(f"{key}_token_id")
            token = values.get(f"{key}_token")  # tokenizer_config.json: text, or {"content": text}
            token = token.get("content") if isinstance(token, dict) else token
            if declared[key] is None and isinstance(token, str):
                declared[key] = vocab.get(token)
        if bos is None and isinstance(declared["bos"], int):
            bos = declared["bos"]
        if eos is None and declared["eos"] is not None:
            eos = declared["eos"] if isinstance(declared["eos"], list) else [declared["eos"]]
    return bos, eos


class StreamDecoder:
    """Text of a growing token sequence, emitted as soon as its characters are complete.

    The pieces joined are the text that decoding all ids at once gives.  A token may end inside a
    UTF-8 character: it is held back until the next tokens complete the character.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._context: list[int] = []  # ids already emitted: spacing at the border depends on them
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """Text that this token completes; may be empty."""
        self._pending.append(int(token_id))
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING_TOKENS:
            return ""
        return self._emit(text)

    def flush(self) -> str:
        """What is still held back (an incomplete character as U+FFFD); call once at the end."""
        return self._emit(self._new_text()) if self._pending else ""

    def _new_text(self) -> str:
        return self._tokenizer.decode(self._context + self._pending)[len(self._tokenizer.decode(self._context)):]

    def _emit(self, text: str) -> str:
        # Tokens without text (special ones) cannot serve as context: the space before the next word
        # would be taken for the start of the text.
        if text:
            self._context = self._pending
        self._pending = []
        return text


def train_tokenizer(texts: Iterable[str], vocab_size: int, out_dir: str | os.PathLike,
                    show_progress: bool = False) -> Tokenizer:
    """Byte-level BPE with <unk>, <s>, </s> = 0, 1, 2; writes tokenizer.json and tokenizer_config.json.

    Every string survives encode and decode unchanged.  A short text may give fewer than vocab_size
    entries: look at .vocab_size of what is returned.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size}: use at least {smallest} (256 bytes and {len(SPECIAL_TOKENS)} "
                         "special tokens)")
    backend = _JsonTokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=sorted(alphabet),
        show_progress=show_progress))
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>",
              "eos_token": "</s>", "clean_up_tokenization_spaces": False}
    for name, text in (("tokenizer.json", backend.to_str(pretty=True)),
                       ("tokenizer_config.json", json.dumps(config, indent=2) + "\n")):
        part = out_dir / (name + ".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, out_dir / name)
    return load_tokenizer(out_dir)
