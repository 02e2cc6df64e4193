"""Read documents from files, one after the other, in bounded memory.

    .txt, .md           one document per file, UTF-8
    .jsonl, .json       one object per line, its key "text"
    .parquet            one row per document, its column "text"

A directory stands for all such files below it, in sorted order.

Units   sizes are bytes of UTF-8, mostly estimates from file headers: they serve progress bars.
Errors  ValueError names the file, the line where there is one, and the fix.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path


TEXT_SUFFIXES = (".txt", ".md")
SUFFIXES = (*TEXT_SUFFIXES, ".jsonl", ".json", ".parquet")
ROWS_PER_READ = 128


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files that the paths name; directories are searched."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not found:
                raise ValueError(f"{path}: holds no {', '.join(SUFFIXES)} file")
            files += found
        elif not path.is_file():
            raise ValueError(f"{path}: no such file")
        elif path.suffix not in SUFFIXES:
            raise ValueError(f"{path}: unknown kind of file; use one of {', '.join(SUFFIXES)}")
        else:
            files.append(path)
    return files


def iter_documents(files: Iterable[Path], key: str = "text") -> Iterator[str]:
    """Texts of all documents, in order; empty ones are left out."""
    for path in files:
        if path.suffix == ".parquet":
            texts = _iter_parquet(path, key)
        elif path.suffix in TEXT_SUFFIXES:
            texts = iter([_read_text(path)])
        else:
            texts = _iter_jsonl(path, key)
        yield from (text for text in texts if text)


def estimate_bytes(files: Iterable[Path], key: str = "text") -> int:
    """About how many bytes of text iter_documents will give, from file sizes and parquet headers."""
    total = 0
    for path in files:
        if path.suffix != ".parquet":
            total += path.stat().st_size
            continue
        metadata = _open_parquet(path, key).metadata
        column = metadata.schema.names.index(key)
        total += sum(metadata.row_group(i).column(column).total_uncompressed_size
                     for i in range(metadata.num_row_groups))
    return total


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # not read_text: it would turn \r\n into \n
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; convert it, e.g. with iconv") from None


def _iter_jsonl(path: Path, key: str) -> Iterator[str]:
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)[key]
                if not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError):  # ValueError covers JSON and UTF-8 errors
                raise ValueError(f'{path}:{number}: expected one JSON object with a string "{key}" per line') from None
            # JSON can spell half of a surrogate pair, which is no character.
            yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _open_parquet(path: Path, key: str):
    import pyarrow.parquet  # here, so that other texts need no such package

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a whole parquet file ({error}); write or copy it again") from None
    if key not in file.schema_arrow.names:
        raise ValueError(f"{path}: no column {key!r}; it has {', '.join(file.schema_arrow.names)}")
    kind = file.schema_arrow.field(key).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise ValueError(f"{path}: column {key!r} is {kind}, not string")
    return file


def _iter_parquet(path: Path, key: str) -> Iterator[str]:
    import pyarrow

    file = _open_parquet(path, key)
    try:
        for batch in file.iter_batches(batch_size=ROWS_PER_READ, columns=[key]):
            yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); write or copy it again") from None
