"""Names, shapes and tensors of weight files, read without running code from them.

safetensors files are memory-mapped: only headers are read until a tensor is used.  `.bin` files are
pickles, loaded with weights_only (anything but tensors is refused) and memory-mapped as well.  An
index lists the shards of a checkpoint and may only name files beside it.  checkpoint.py gives the
tensors their canonical names.

Errors  ValueError names the file and the fix.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class SafetensorsFile:
    """One mapped safetensors file."""

    def __init__(self, path: Path):
        try:
            self.file = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from None

    def items(self) -> Iterator[tuple[str, tuple[int, ...], object]]:
        for name in self.file.keys():
            entry = self.file.get_slice(name)
            dtype = entry.get_dtype()
            yield name, tuple(entry.get_shape()), DTYPES.get(dtype, dtype)

    def load(self, name: str) -> Tensor:
        return self.file.get_tensor(name)  # a view of the mapped file


class PickleFile:
    """One state dictionary saved by torch."""

    def __init__(self, path: Path):
        try:
            try:
                values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                values = torch.load(path, map_location="cpu", weights_only=True)  # written by torch < 1.6
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path}: holds more than tensors and could run code, so it is not loaded "
                             f"({_first_line(error)}); convert it to safetensors where you trust it") from None
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: not a whole PyTorch weight file ({_first_line(error)}); "
                             "copy or download it again") from None
        if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
            raise ValueError(f"{path}: expected one dictionary of name -> tensor, as model.state_dict() gives")
        self.values = values

    def items(self) -> Iterator[tuple[str, tuple[int, ...], object]]:
        for name, value in self.values.items():
            plain = isinstance(value, Tensor) and value.layout == torch.strided
            dtype = value.dtype if plain else type(value).__name__
            yield name, tuple(value.shape) if plain else (), dtype if dtype in DTYPES.values() else str(dtype)

    def load(self, name: str) -> Tensor:
        return self.values[name].detach()


def _open_file(path: Path) -> SafetensorsFile | PickleFile:
    if not path.is_file():
        raise ValueError(f"{path}: missing; download it again")
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)


def _open_index(path: Path) -> Iterator[tuple[str, tuple[int, ...], object, object]]:
    """Tensors of a sharded checkpoint.  The index may only name files beside it."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{path}: expected {{"weight_map": {{tensor name: file name}}}} ({error}); '
                         "download it again") from None
    problems, found, listed = [], {}, {}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or file in ("", ".", ".."):
            problems.append(f"refers to {file!r}, which is not a file name in this directory")
            continue
        try:
            source = _open_file(path.parent / file)
        except ValueError as error:
            problems.append(str(error))
            continue
        for name, shape, dtype in source.items():
            listed[file, name] = (name, shape, dtype, source)
    for name, file in weight_map.items():
        if (file, name) in listed:
            found[name] = listed[file, name]
        elif any(key[0] == file for key in listed):
            problems.append(f"{name}: not in {file}, where the index puts it")
    if problems:
        raise ValueError(f"{path}: " + "\n  ".join(problems) + "\nDownload the checkpoint again.")
    yield from found.values()


def stored_tensors(directory: Path) -> Iterator[tuple[str, tuple[int, ...], object, object]]:
    """(stored name, shape, dtype, file to load it from) of every tensor of a checkpoint directory.

    The dtype is a torch.dtype of DTYPES, or a text for types that checkpoints do not use.
    """
    for file in SINGLE_FILES:
        if (directory / file).exists():
            source = _open_file(directory / file)
            yield from ((*item, source) for item in source.items())
            return
        if (directory / f"{file}.index.json").exists():
            yield from _open_index(directory / f"{file}.index.json")
            return
    raise ValueError(f"{directory}: no weights; expected one of {', '.join(SINGLE_FILES)}, or shards with "
                     "an .index.json of that name")
