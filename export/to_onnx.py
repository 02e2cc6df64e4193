"""Exports a checkpoint directory to a directory with one ONNX model for ONNX Runtime and our operator library.

    python export/to_onnx.py checkpoints/blockffn-22m-docs -o out/onnx --quant int8

The directory holds model.onnx (the graph), model.onnx.data (the packed weights, the same bytes as in a .pte),
model.library.onnx (the graph for our library alone, which loads several times as fast) and the tokenizer's files. Before it
appears, ONNX Runtime runs the model, which is compared with eager PyTorch (parity), and its perplexity on held-out text with
that of the float32 model; a larger increase than --max-perplexity-increase fails the export. An earlier export in the
directory is replaced. The last line on stdout is one JSON object.

The model runs without our library too, slowly. --ffn qmoe writes one that needs no library and is faster than that: stock
operators only, QMoE for the experts and MatMulNBits for all other matrices (int8: ONNX Runtime 1.26 or newer; int4: 1.32).

Exit status: 0 done, 1 failed or interrupted with the output path as it was, 2 bad arguments.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

if not __package__:  # run as a file: export/ would be searched first, and its modules shadow others
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from export import command


def _require_library() -> None:
    from runtime_delegates.onnx_model import operator_library

    operator_library()


def _write(decoder, path: Path, eos_ids, on_packed):
    from export.onnx_graph import write_onnx  # imports ExecuTorch, which takes seconds

    return write_onnx(decoder, path, eos_ids, on_packed)


def _open_session(path: Path):
    from runtime_delegates.onnx_session import OnnxSession

    return OnnxSession(path)


def _write_stock(decoder, path: Path, eos_ids, on_packed):
    from export.onnx_stock import write_stock

    return write_stock(decoder, path, eos_ids, on_packed)


def _open_stock_session(path: Path):
    from runtime_delegates.onnx_session import OnnxSession

    return OnnxSession(path, plain=True)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    command.add_attention_quant(parser)
    parser.add_argument(
        "--ffn", choices=("blockffn", "qmoe"), default="blockffn",
        help="qmoe: operators of ONNX Runtime only, for where no library can be loaded (default: %(default)s)",
    )


def _variant(args: argparse.Namespace) -> command.Target:
    if args.ffn == "blockffn":
        return TARGET
    return dataclasses.replace(TARGET, default_name="onnx-qmoe-{quant}", require_library=lambda: None,
                               write=_write_stock, open_session=_open_stock_session)


TARGET = command.Target(
    prog="to_onnx.py",
    runtime="ONNX Runtime",
    description=__doc__,
    output_help="the directory to write (default: out/CKPT/onnx-QUANT)",
    default_name="onnx-{quant}",
    kind="directory",
    file_name="model.onnx",
    bytes_key="onnx_bytes",
    require_library=_require_library,
    write=_write,
    open_session=_open_session,
    build=command.build_decoder,
    references=command.eager_decoders,
    add_flags=_add_flags,
    variant=_variant,
)


def build_parser():
    return command.build_parser(TARGET)


def main(argv: list[str] | None = None) -> int:
    return command.main(TARGET, argv)


if __name__ == "__main__":
    sys.exit(main())
