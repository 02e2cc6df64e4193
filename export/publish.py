"""Makes a program appear whole or not at all, with the tokenizer files beside it.

Everything is written into a hidden-away directory `<name>.XXXX.part` beside the target (its disk has
the room, /tmp may not) and renamed at the end. On any failure, Ctrl-C or SIGTERM the directory goes,
and with it every temporary file.

An output is a "file" with the tokenizer's files beside it, a "directory" that holds them too, or a "package": a directory
that is one model (.mlpackage), with the tokenizer's files beside it.

Errors  ValueError for a target that cannot be used.
"""

import errno
import filecmp
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from training.checkpoint import TOKENIZER_FILES

COPIED_FILES = (*TOKENIZER_FILES, "generation_config.json")
EXPORTED = {"directory": ("model.onnx", "model.onnx.data", "model.library.onnx", *COPIED_FILES), "package": ("Manifest.json", "Data")}
DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def companions(checkpoint_dir: Path, output: Path, kind: str = "file") -> list[str]:
    """Names of the tokenizer files to copy beside `output`, or into it if it is a directory, which gets them all.

    ValueError if one of them is beside it with other contents: it belongs to another model.
    """
    if not any((checkpoint_dir / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return []
    if kind == "directory":
        return [name for name in COPIED_FILES if (checkpoint_dir / name).is_file()]
    if output.parent.resolve() == checkpoint_dir.resolve():
        return []
    names = [name for name in COPIED_FILES if (checkpoint_dir / name).is_file()]
    for name in names:
        there = output.parent / name
        if there.exists() and not (there.is_file() and filecmp.cmp(there, checkpoint_dir / name, shallow=False)):
            raise ValueError(f"{there} belongs to another model; choose an output in a directory of its own with -o")
    return [name for name in names if not (output.parent / name).exists()]


@contextmanager
def workspace(output: Path, kind: str = "file") -> Iterator[Path]:
    """A directory beside `output` that vanishes at the end, as do parents made for it if they stay empty.

    SIGTERM raises KeyboardInterrupt meanwhile, so that it cleans up as Ctrl-C does.
    """
    if kind != "file":
        _require_replaceable(output, EXPORTED[kind])
    elif output.is_dir():
        raise ValueError(f"{output} is a directory; name a .pte file")
    missing = [parent for parent in output.absolute().parents if not parent.exists()]
    previous = signal.signal(signal.SIGTERM, _interrupt)
    directory = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f"{output.name}.", suffix=".part", dir=output.parent))
        yield directory
    finally:
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave half of it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        for parent in missing:  # innermost first
            try:
                parent.rmdir()
            except OSError:
                break
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, previous)


def publish(program: Path, output: Path, checkpoint_dir: Path, names: list[str]) -> None:
    """Moves the finished program, a file or a package, to `output`; its companions are there first."""
    for name in names:
        shutil.copyfile(checkpoint_dir / name, program.parent / name)
    added = []
    try:
        for name in names:
            os.replace(program.parent / name, output.parent / name)
            added.append(output.parent / name)
        _replace(program, output)
    except BaseException:
        for path in added:
            path.unlink(missing_ok=True)
        raise


def publish_directory(program: Path, output: Path, checkpoint_dir: Path, names: list[str]) -> None:
    """Moves the finished program and what was written beside it, with its companions, to the directory `output`."""
    finished = program.parent / "finished"
    finished.mkdir()
    for name in EXPORTED["directory"]:
        if (program.parent / name).is_file():
            os.replace(program.parent / name, finished / name)
    for name in names:
        shutil.copyfile(checkpoint_dir / name, finished / name)
    _replace(finished, output)


def _replace(finished: Path, output: Path) -> None:
    """Renames, also where `output` is a directory that is there already."""
    replaced = finished.parent / "replaced"
    if output.is_dir():
        os.replace(output, replaced)
    try:
        os.replace(finished, output)
    except BaseException:
        if replaced.exists():
            os.replace(replaced, output)
        raise


PUBLISHERS = {"file": publish, "directory": publish_directory, "package": publish}


def _require_replaceable(output: Path, known: tuple[str, ...]) -> None:
    """ValueError unless `output` is absent, or a directory that holds an earlier export and nothing else."""
    if not os.path.lexists(output):
        return
    if not output.is_dir() or output.is_symlink():
        raise ValueError(f"{output} is not a directory; name a new one with -o")
    others = sorted(path.name for path in output.iterdir() if path.name not in known)
    if others:
        raise ValueError(f"{output} holds {others[0]}, which is no part of an export; name a new directory with -o")


def _interrupt(*_) -> None:
    raise KeyboardInterrupt
