"""`to_executorch.py HEAD --target CKPT`: a draft head becomes a program of its own, checked for parity."""

import json
from pathlib import Path


def run(args, require_library, write) -> int:
    """Exit status; ValueError, RuntimeError, QualityError or OSError hold a sentence for the user."""
    from export.command import packed_bytes, parameter_count, require_space
    from export.draft_decoder import DraftDecoder
    from export.publish import publish, workspace
    from export.report import bar, render
    from export.resources import Costs
    from training.checkpoint import open_checkpoint
    from training.draft_files import open_draft

    with Costs() as costs, workspace(args.output) as directory:
        with costs.phase("open"):
            target = open_checkpoint(args.target)
            draft = open_draft(args.checkpoint, target)
            decoder = DraftDecoder(draft, target, args.quant, args.max_context)
            if args.check != "none":
                require_library()
        packed = packed_bytes(decoder, args.quant)
        require_space(directory, 2 * packed)
        program = directory / "draft.pte"
        with costs.phase("lower"), bar("packing weights", packed, "B") as progress:
            lowered = write(decoder, program, None, progress.update)
        parity = None
        if args.check != "none":
            with costs.phase("parity"):
                parity = _check(draft, target, decoder, program)
        publish(program, args.output, args.checkpoint, [])

    result = {
        "output": str(args.output),
        "draft_head": str(args.checkpoint),
        "target": str(args.target),
        "quant": args.quant,
        "max_context": decoder.max_context,
        "parameters": parameter_count(decoder),
        "draft_vocab_size": len(decoder.token_id_remap),
        "pte_bytes": lowered.file_bytes,
        "step_bytes": _step_bytes(lowered),
        "delegates": dict(lowered.delegates),
        "nodes": dict(lowered.ops),
        "weight_bytes": dict(lowered.weight_bytes),
        "parity": parity,
        "perplexity": None,
        **costs.totals(),
    }
    print(render(result, lowered.file_bytes, "ExecuTorch"))
    print(json.dumps(result))
    return 0


def _step_bytes(lowered) -> int:
    """Weights that one call reads: all but the embedding, of which it reads a row for each token."""
    return sum(size for name, size in lowered.weight_bytes.items() if name != "embedding")


def _check(draft, target, decoder, program: Path) -> dict:
    from export.draft_decoder import DraftDecoder
    from export.draft_quality import check_parity
    from runtime_delegates.draft_session import DraftSession
    from runtime_delegates.logs import quiet_log

    with quiet_log(False):
        session = DraftSession(program)

    def eager(quant: str) -> DraftDecoder:
        small = DraftDecoder(draft, target, quant, 64)
        small.inv_freq = decoder.inv_freq  # dynamic scaling depends on the context
        return small

    quantized = eager(decoder.quant)
    exact = quantized if decoder.quant == "fp32" else eager("fp32")
    return check_parity(session, quantized, exact, draft, target)
