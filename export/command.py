"""What the export commands share: flags, checks, the table and the JSON line. A Target says what differs.

A command writes its output whole or not at all, see publish.py. Modules that take seconds to import are imported
where they are needed, not before the arguments are known to be right.
"""

import argparse
import json
import logging
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from export.precisions import KV_QUANTS, QUANTS

ROOT = Path(__file__).resolve().parent.parent
HELDOUT = ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl"
MAX_INCREASE = {"fp32": 0.001, "int8": 0.01, "int4": 0.05}
PACKED_BYTES_PER_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.06, "int4": 0.6, "palette4": 0.55}


@dataclass(frozen=True)
class Target:
    """A format of exported models and the runtime that its checks use."""

    prog: str
    runtime: str  # its name
    description: str
    output_help: str
    default_name: str  # of the output inside out/CKPT/, with {quant}
    kind: str  # of the output, see publish.py: "file", "directory" or "package"
    file_name: str  # of the program while it is written, and inside such a directory
    bytes_key: str  # of the JSON line
    require_library: Callable[[], Any]  # RuntimeError if the checks could not run
    write: Callable[..., Any]  # (decoder, path, eos_ids, on_packed) -> lower.Lowered
    open_session: Callable[[Path], Any]  # a loaded program
    build: Callable[..., Any]  # (checkpoint, args) -> decoder
    references: Callable[..., tuple]  # (checkpoint, decoder) -> eager decoders: in the program's precision, in float32
    max_increase: dict[str, float] = field(default_factory=lambda: MAX_INCREASE)  # precision -> of the perplexity
    run_draft: Callable[..., int] | None = None  # (args) -> 0, for draft heads, where the format has them
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None  # of this format alone
    variant: Callable[[argparse.Namespace], "Target"] | None = None  # the target that those flags choose


def add_attention_quant(parser: argparse.ArgumentParser) -> None:
    """The flag of formats whose kernels take any precision in any matrix."""
    parser.add_argument(
        "--attention-quant", choices=QUANTS,
        help="attention, embedding and head, at least as fine as --quant; int8 under --quant int4 takes a fifth more "
        "bytes and leaves a third of the increase in perplexity (default: as --quant)",
    )


def add_kv(parser: argparse.ArgumentParser) -> None:
    """The flag of formats whose attention reads rounded caches."""
    parser.add_argument(
        "--kv", choices=KV_QUANTS, default="fp32",
        help="key/value cache; int8 takes a quarter of the memory, with a scale for every head's row (default: %(default)s)",
    )


def build_parser(target: Target) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=target.prog, description=target.description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(target=None, attention_quant=None, kv="fp32")  # of formats without these flags
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="checkpoint directory")
    if target.run_draft is not None:
        parser.add_argument("--target", type=Path, metavar="CKPT", help="checkpoint that the draft head was trained for")
    parser.add_argument("-o", "--output", type=Path, help=target.output_help)
    parser.add_argument("--quant", choices=tuple(target.max_increase), default="int8", help="weights (default: %(default)s)")
    parser.add_argument(
        "--max-context", type=int, metavar="N",
        help="tokens that the key/value cache holds, at least 64 (default: max_position_embeddings)",
    )
    parser.add_argument(
        "--check", choices=("full", "parity", "none"), default="full",
        help="full: parity and perplexity; a model of a billion parameters takes long (default: %(default)s)",
    )
    parser.add_argument(
        "--heldout", type=Path, nargs="+", default=[HELDOUT], metavar="FILE",
        help=".txt, .jsonl or .parquet text for the perplexity (default: the corpus' held-out sample)",
    )
    parser.add_argument("--heldout-tokens", type=int, default=4096, metavar="N", help="of it (default: %(default)s)")
    parser.add_argument(
        "--max-perplexity-increase", type=float, metavar="X",
        help="fraction above which the export fails (default: "
        + ", ".join(f"{limit:g} for {quant}" for quant, limit in target.max_increase.items()) + ")",
    )
    if target.add_flags is not None:
        target.add_flags(parser)
    return parser


def main(target: Target, argv: list[str] | None = None) -> int:
    parser = build_parser(target)
    args = parser.parse_args(argv)
    target = target if target.variant is None else target.variant(args)
    if args.max_context is not None and args.max_context < 64:
        parser.error(f"--max-context {args.max_context}: a chunk has up to 64 tokens, choose at least 64")
    if args.heldout_tokens < 2:
        parser.error(f"--heldout-tokens {args.heldout_tokens}: choose at least 2")
    attention_quant = args.attention_quant
    if attention_quant is not None and QUANTS.index(attention_quant) > QUANTS.index(args.quant):
        parser.error(f"--attention-quant {attention_quant} is coarser than --quant {args.quant}; choose the same or a finer one")
    if args.kv != "fp32" and args.target is not None:
        parser.error("--kv is for models; a draft head's cache is float32")
    if attention_quant is not None and args.target is not None:
        parser.error("--attention-quant is for models; a draft head has one precision, --quant")
    if args.max_perplexity_increase is None:
        args.max_perplexity_increase = target.max_increase[args.quant]
    elif math.isnan(args.max_perplexity_increase):
        parser.error("--max-perplexity-increase nan: choose a number, 0.01 allows one percent")
    if not args.checkpoint.is_dir():
        parser.error(f"{args.checkpoint}: not a directory; name a checkpoint directory with config.json and weights")
    if args.target is not None and not args.target.is_dir():
        parser.error(f"--target {args.target}: not a directory; name the checkpoint that the head was trained for")
    if args.output is None and args.target is not None:
        args.output = Path("out") / args.target.resolve().name / f"draft-{args.quant}.pte"
    if args.output is None:
        quant = args.quant if attention_quant in (None, args.quant) else f"{args.quant}-attention-{attention_quant}"
        quant += "-kv-int8" if args.kv == "int8" else ""
        args.output = Path("out") / args.checkpoint.resolve().name / target.default_name.format(quant=quant)
    # Read when torch is loaded: its threads shall sleep between operators, not spin; on a busy machine, and
    # beside the backend's own threads, that makes the checks several times faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch and ExecuTorch log about each other while they are imported.
    for name in ("torch.utils._pytree", "torch.export", "executorch", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)

    from export.publish import DISK_FULL
    from export.quality import QualityError

    try:
        return _run(target, args) if args.target is None else target.run_draft(args)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
    except (ValueError, RuntimeError, QualityError) as error:
        print(f"export failed: {error}", file=sys.stderr)
    except OSError as error:
        hint = "; free space there or name another place with -o" if error.errno in DISK_FULL else ""
        print(f"export failed: {args.output}: {error.strerror or error}{hint}", file=sys.stderr)
    return 1


def _run(target: Target, args: argparse.Namespace) -> int:
    from export.publish import PUBLISHERS, companions, workspace
    from export.report import bar, render
    from export.resources import Costs
    from training.checkpoint import open_checkpoint
    from training.draft_files import is_draft

    if is_draft(args.checkpoint):
        raise ValueError(f"{args.checkpoint} is a draft head; export it for an ExecuTorch target with "
                         "export/to_executorch.py HEAD --target CKPT")
    with Costs() as costs, workspace(args.output, target.kind) as directory:
        with costs.phase("open"):
            checkpoint = open_checkpoint(args.checkpoint)
            names = companions(checkpoint.path, args.output, target.kind)
            tokenizer, windows = _texts(args, checkpoint)
            decoder = target.build(checkpoint, args)
            _warn_about_context(decoder)
            if args.check != "none":
                target.require_library()  # its absence should not cost an export

        packed = packed_bytes(decoder, args.quant, args.attention_quant)
        require_space(directory, 2 * packed)
        program = directory / target.file_name
        with costs.phase("lower"), bar("packing weights", packed, "B") as progress:
            eos_ids = tokenizer.eos_ids if tokenizer is not None else None
            lowered = target.write(decoder, program, eos_ids, progress.update)

        parity = perplexity = None
        if args.check != "none":
            parity, perplexity = _check(target, args, costs, checkpoint, decoder, program, windows)
        PUBLISHERS[target.kind](program, args.output, checkpoint.path, names)

    result = {
        "output": str(args.output),
        "checkpoint": str(args.checkpoint),
        "quant": args.quant,
        "attention_quant": args.attention_quant or args.quant,
        "kv": args.kv,
        "max_context": decoder.max_context,
        "parameters": parameter_count(decoder),
        target.bytes_key: lowered.file_bytes,
        "delegates": dict(lowered.delegates),
        "nodes": dict(lowered.ops),
        "weight_bytes": dict(lowered.weight_bytes),
        "parity": parity,
        "perplexity": perplexity,
        **costs.totals(),
    }
    print(render(result, lowered.file_bytes, target.runtime))
    print(json.dumps(result))
    return 0


def _texts(args: argparse.Namespace, checkpoint) -> tuple:
    """(tokenizer or None, held-out windows or None)."""
    from export.quality import heldout_windows
    from training.tokenizer import load_tokenizer

    if checkpoint.tokenizer_dir is None:
        print(
            f"warning: {args.checkpoint} has no tokenizer.json or tokenizer.model: perplexity is not checked, and text "
            "generation needs --tokenizer; copy the model's tokenizer files there", file=sys.stderr,
        )
        return None, None
    tokenizer = load_tokenizer(checkpoint.tokenizer_dir)
    if args.check != "full":
        return tokenizer, None
    vocab_size, context = checkpoint.config.vocab_size, args.max_context or checkpoint.config.max_position_embeddings
    return tokenizer, heldout_windows(args.heldout, tokenizer, vocab_size, args.heldout_tokens, context)


def _check(target: Target, args: argparse.Namespace, costs, checkpoint, decoder, program: Path, windows) -> tuple:
    """(parity, perplexity or None) of the program; QualityError if it must not be published."""
    from export.quality import check_parity, check_perplexity, reference_model
    from export.report import bar
    from export.resources import release_pages

    with costs.phase("parity"), bar("parity", 4, "runs") as progress:

        def on_run() -> None:
            progress.update()
            release_pages(program, checkpoint.path)

        release_pages(checkpoint.path)
        session = target.open_session(program)
        release_pages(program)
        reference = reference_model(checkpoint, decoder.max_context)
        parity = check_parity(session, *target.references(checkpoint, decoder), reference, on_run)
    if windows is None:
        return parity, None
    with costs.phase("perplexity"), bar("perplexity", 2 * sum(map(len, windows)), "tokens") as progress:
        limit = args.max_perplexity_increase
        perplexity = check_perplexity(session, reference, windows, limit, progress.update)
    return parity, perplexity | getattr(session, "figures", dict)()


def build_decoder(checkpoint, args: argparse.Namespace):
    """The decoder of `blockffn::` operators."""
    from export.decoder import Decoder

    return Decoder(checkpoint, args.quant, args.max_context, args.attention_quant, args.kv)


def eager_decoders(checkpoint, decoder) -> tuple:
    """In the decoder's precision and in float32 (maybe the same), with a cache for one chunk: the golden tokens are
    fewer, and every step copies it."""
    from export.decoder import Decoder

    def eager(quant: str, attention_quant: str, kv_quant: str = "fp32") -> Decoder:
        small = Decoder(checkpoint, quant, 64, attention_quant, kv_quant)
        small.inv_freq = decoder.inv_freq  # dynamic scaling depends on the context
        return small

    quantized = eager(decoder.quant, decoder.attention_quant, decoder.kv_quant)
    exact = decoder.quant == decoder.kv_quant == "fp32"
    return quantized, quantized if exact else eager("fp32", "fp32")


def _warn_about_context(decoder) -> None:
    trained = decoder.config.max_position_embeddings
    if decoder.max_context > trained and not decoder.config.rope_scaling:
        print(
            f"warning: --max-context {decoder.max_context} exceeds the {trained} positions that the model was trained "
            "for (max_position_embeddings), and config.json has no rope_scaling", file=sys.stderr,
        )


def parameter_count(decoder) -> int:
    return sum(parameter.numel() for parameter in decoder.parameters())


def packed_bytes(decoder, quant: str, attention_quant: str | None = None) -> int:
    """About how many bytes the packed weights take: for the progress bar and the disk."""
    ffn = sum(parameter.numel() for name, parameter in decoder.named_parameters() if ".mlp." in name)
    rest = parameter_count(decoder) - ffn
    return int(ffn * PACKED_BYTES_PER_WEIGHT[quant] + rest * PACKED_BYTES_PER_WEIGHT[attention_quant or quant])


def require_space(directory: Path, needed: int) -> None:
    """OSError before an hour of work rather than after it."""
    import errno
    import shutil

    from export.report import bytes_text

    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{bytes_text(free)} free, about {bytes_text(needed)} needed while exporting")
