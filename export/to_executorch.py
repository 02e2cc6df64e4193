"""Exports a checkpoint directory to one ExecuTorch program (.pte) for the BlockFFN backend.

    python export/to_executorch.py checkpoints/blockffn-22m-docs -o out/model.pte --quant int8
    python export/to_executorch.py HEAD_DIR --target checkpoints/blockffn-22m-docs -o out/draft.pte

The checkpoint may have any published layout. Before the file appears, the program is run by the C++
backend and compared with eager PyTorch (parity), and its perplexity on held-out text with that of
the float32 model; a larger increase than --max-perplexity-increase fails the export. The tokenizer's
files are copied beside the program. With --target, CKPT is a draft head of that checkpoint: it becomes a
program of its own that drafts for the target's. The last line on stdout is one JSON object.

Exit status: 0 done, 1 failed or interrupted with nothing left at the output path, 2 bad arguments.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: export/ would be searched first, and its modules shadow others
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from export import command
from export.command import MAX_INCREASE, ROOT  # noqa: F401  part of this module's interface


def _require_library() -> None:
    from runtime_delegates.loader import load_backend

    load_backend()


def _write(decoder, path: Path, eos_ids, on_packed):
    from export.lower import lower  # ExecuTorch takes seconds to import: not before all else is in order

    return lower(decoder, str(path), eos_ids, on_packed)


def _open_session(path: Path):
    from runtime_delegates.logs import quiet_log
    from runtime_delegates.session import Session

    with quiet_log(False):
        session = Session(path)
        session.step([0])  # starts the thread pool, which logs too
    return session


def _run_draft(args) -> int:
    from export.draft_command import run

    return run(args, _require_library, _write)


def _add_flags(parser) -> None:
    command.add_attention_quant(parser)
    command.add_kv(parser)


TARGET = command.Target(
    prog="to_executorch.py",
    runtime="ExecuTorch",
    description=__doc__,
    output_help="the .pte to write (default: out/CKPT/model-QUANT.pte)",
    default_name="model-{quant}.pte",
    kind="file",
    file_name="model.pte",
    bytes_key="pte_bytes",
    require_library=_require_library,
    write=_write,
    open_session=_open_session,
    build=command.build_decoder,
    references=command.eager_decoders,
    run_draft=_run_draft,
    add_flags=_add_flags,
)


def build_parser():
    return command.build_parser(TARGET)


def main(argv: list[str] | None = None) -> int:
    return command.main(TARGET, argv)


if __name__ == "__main__":
    sys.exit(main())
