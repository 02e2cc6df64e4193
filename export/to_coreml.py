"""Exports a checkpoint directory to a Core ML model (.mlpackage) for iOS 18 and macOS 15.

    python export/to_coreml.py checkpoints/blockffn-22m-docs -o out/model.mlpackage --quant palette4

The model holds the whole decoder with its key/value caches as states, takes chunks of 1, 2, 4, 8, 16, 32 or 64 tokens with
a tree mask, and computes all experts, those that a token does not use times zero: a form that the Neural Engine can run.
With --ffn gather its first function computes only the experts that the chunk uses, if they are not too many: every layer
has room for as many as held-out text needs. Its output "overflow" says when they were too many, and the second function,
"dense", repeats such a chunk.

With --executorch the same program becomes a .pte for ExecuTorch's Core ML delegate.

Before the output appears, the saved package is interpreted operator by operator on this machine and compared with eager PyTorch (parity),
and its perplexity on held-out text with that of the float32 model; a larger increase than --max-perplexity-increase fails
the export. No Apple software takes part in that. The tokenizer's files are copied beside the package. The last line on
stdout is one JSON object.

Exit status: 0 done, 1 failed or interrupted with nothing left at the output path, 2 bad arguments.
"""

import dataclasses
import sys
from pathlib import Path

if not __package__:  # run as a file: export/ would be searched first, and its modules shadow others
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from export import command

MAX_INCREASE = {"fp16": 0.005, "int8": 0.01, "int4": 0.05, "palette4": 0.08}


def _add_flags(parser) -> None:
    parser.add_argument("--ffn", choices=("dense", "gather"), default="dense",
                        help="compute all experts, or gather those of the chunk (default: %(default)s)")
    parser.add_argument("--gather-experts", default="auto", metavar="K",
                        help="experts that --ffn gather has room for: one number, one for each layer with commas between, or "
                        "auto: as many as 98 %% of the held-out chunks need (default: %(default)s)")
    parser.add_argument("--gather-chunk", type=int, metavar="T",
                        help="longest chunk that experts are gathered for; longer ones are for the dense function (default: 1)")
    parser.add_argument("--executorch", action="store_true", help="write a .pte for ExecuTorch's Core ML delegate")


def _require_library() -> None:
    try:
        import coremltools  # noqa: F401
    except ImportError as error:
        raise RuntimeError(f"coremltools cannot be imported ({error}); it has wheels for x86-64 Linux and macOS and for "
                           "Python before 3.14: pip install coremltools==9.0") from None


def _build(checkpoint, args):
    from export.coreml_compress import Compression
    from export.coreml_decoder import CoreMLDecoder
    from export.ops import MAX_TOKENS

    _require_library()
    if args.executorch and args.ffn == "gather":
        raise ValueError("--executorch needs --ffn dense: methods of a .pte do not share Core ML states, so that no dense one "
                         "could repeat a chunk")
    gathered, chunk = None, args.gather_chunk or 1
    if args.ffn == "gather":
        if not checkpoint.config.is_block_ffn:
            raise ValueError("experts cannot be gathered from a dense model; export it with --ffn dense")
        if args.gather_chunk is not None and not 1 <= args.gather_chunk <= MAX_TOKENS:
            raise ValueError(f"--gather-chunk {args.gather_chunk}: a chunk has 1 to {MAX_TOKENS} tokens")
        gathered = _room(checkpoint, args, chunk)
    elif args.gather_experts != "auto" or args.gather_chunk is not None:
        raise ValueError("--gather-experts and --gather-chunk need --ffn gather")
    decoder = CoreMLDecoder(checkpoint, args.max_context, gathered)
    decoder.gather_chunk = chunk
    decoder.checkpoint = checkpoint
    decoder.compression = Compression(decoder.matrices(), args.quant)
    return decoder


def _room(checkpoint, args, chunk: int) -> list[int]:
    """Experts to gather in every layer: those that were asked for, or measured on the held-out text."""
    from export import coreml_gather
    from export.quality import heldout_windows, reference_model
    from training.tokenizer import load_tokenizer

    config, numbers = checkpoint.config, coreml_gather.parse(args.gather_experts)
    if numbers is None:
        if checkpoint.tokenizer_dir is None:
            raise ValueError(f"{checkpoint.path} has no tokenizer, so that nothing can be measured; give numbers with --gather-experts")
        context = args.max_context or config.max_position_embeddings
        windows = heldout_windows(args.heldout, load_tokenizer(checkpoint.tokenizer_dir), config.vocab_size,
                                  args.heldout_tokens, context)
        numbers = coreml_gather.room(coreml_gather.unions(reference_model(checkpoint, context), windows, chunk))
    numbers = coreml_gather.per_layer(numbers, config.num_hidden_layers, config.num_experts)
    share = sum(numbers) / len(numbers) / config.num_experts
    print(f"gathering {', '.join(map(str, numbers))} of {config.num_experts} experts, {share:.0%} of the weights, for chunks of up "
          f"to {chunk} token{'s' * (chunk > 1)}", file=sys.stderr)
    return numbers


def _packing(decoder, on_packed):
    """The decoder's compression, which reports the bytes it makes."""
    bytes_per_weight = command.PACKED_BYTES_PER_WEIGHT[decoder.compression.quant]
    decoder.compression.on_weight = lambda elements: on_packed(int(elements * bytes_per_weight))
    return decoder.compression


def _write(decoder, path: Path, eos_ids, on_packed):
    from export.coreml_decoder import CoreMLDecoder
    from export.coreml_graph import metadata_of, write_package

    compression = _packing(decoder, on_packed)
    dense = CoreMLDecoder(decoder.checkpoint, decoder.max_context) if decoder.gathered else None
    return write_package(decoder, dense, path, compression, metadata_of(decoder, compression.quant, eos_ids))


def _open_session(path: Path):
    from export.coreml_session import CoreMLSession

    return CoreMLSession(path)


def _write_pte(decoder, path: Path, eos_ids, on_packed):
    from export.coreml_executorch import write_pte
    from export.coreml_graph import metadata_of

    compression = _packing(decoder, on_packed)
    return write_pte(decoder, path, compression, metadata_of(decoder, compression.quant, eos_ids))


def _open_pte(path: Path):
    from export.coreml_executorch import extract_package, pte_metadata
    from export.coreml_session import CoreMLSession

    return CoreMLSession(extract_package(path, path.with_name("extracted")), pte_metadata(path))


def _variant(args) -> command.Target:
    if not args.executorch:
        return TARGET
    return dataclasses.replace(
        TARGET, default_name="coreml-{quant}.pte", kind="file", file_name="model.pte", bytes_key="pte_bytes",
        write=_write_pte, open_session=_open_pte)


def _references(checkpoint, decoder) -> tuple:
    from export.coreml_decoder import CoreMLDecoder
    from export.coreml_session import EagerDecoder

    def eager(compression):
        small = CoreMLDecoder(checkpoint, 64)
        small.cos_PR, small.sin_PR = decoder.cos_PR, decoder.sin_PR  # dynamic scaling depends on the context
        return EagerDecoder(small, compression)

    return eager(decoder.compression), eager(None)


TARGET = command.Target(
    prog="to_coreml.py",
    runtime=None,
    description=__doc__,
    output_help="the .mlpackage or .pte to write (default: out/CKPT/model-QUANT.mlpackage or coreml-QUANT.pte)",
    default_name="model-{quant}.mlpackage",
    kind="package",
    file_name="model.mlpackage",
    bytes_key="mlpackage_bytes",
    require_library=_require_library,
    write=_write,
    open_session=_open_session,
    build=_build,
    references=_references,
    max_increase=MAX_INCREASE,
    add_flags=_add_flags,
    variant=_variant,
)


def build_parser():
    return command.build_parser(TARGET)


def main(argv: list[str] | None = None) -> int:
    return command.main(TARGET, argv)


if __name__ == "__main__":
    sys.exit(main())
