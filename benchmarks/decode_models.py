"""The programs that benchmarks/decode.py times, exported once and kept, and the dense twin as it is driven from Python.

Units   bytes of weights as they lie in the program; milliseconds.
Errors  RuntimeError and ValueError of the exports, with a sentence.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = 1024
PRECISIONS = {"int8": "8da8w", "int4": "8da4w"}
SHIPPED = "shipped"


@dataclass
class Files:
    """One model in one precision. weight_bytes: of the sparse program by operator; dense: one .pte, or (layer, head)."""

    model: str
    precision: str
    config: object
    sparse: Path
    weight_bytes: dict[str, int]
    dense: tuple[Path, ...]
    dense_bytes: int
    head: Path | None = None
    head_bytes: int = 0
    traces: list = field(default_factory=list)  # of a synthetic model,
    drafts: str = ""  # and which of its drafters was fastest


def _once(path: Path, what: str, make) -> Path:
    """make(part) unless the file is there, then a rename."""
    if not path.is_file():
        print(f"exporting {path.name} {what}...", file=sys.stderr, flush=True)
        part = path.with_name(path.name + ".part")
        make(part)
        part.rename(path)
    return path


def _lowered(module_of, path: Path, sizes: Path, what: str) -> dict[str, int]:
    from export.lower import lower

    def make(part: Path) -> None:
        sizes.write_text(json.dumps(dict(lower(module_of(), str(part)).weight_bytes)))

    _once(path, what, make)
    return json.loads(sizes.read_text())


def shipped(args, precision: str) -> Files:
    from benchmarks.dense_twin import export_twin, weight_bytes
    from export.decoder import Decoder
    from export.draft_decoder import DraftDecoder
    from training.checkpoint import open_checkpoint
    from training.draft_files import fingerprint, open_draft

    checkpoint, peer = open_checkpoint(args.checkpoint), PRECISIONS[precision]
    name = f"{args.checkpoint.name}-{fingerprint(checkpoint.tensors, checkpoint.config):016x}"  # a retrained one is another
    sparse, dense = args.models / f"{name}-{precision}.pte", args.models / f"{args.checkpoint.name}-dense-{peer}.pte"
    sizes = _lowered(lambda: Decoder(checkpoint, precision, CONTEXT), sparse, sparse.with_suffix(".json"), "")
    _once(dense, "(a minute or two) ", lambda part: export_twin(checkpoint.config, peer, CONTEXT, part))
    files = Files(SHIPPED, precision, checkpoint.config, sparse, sizes, (dense,), weight_bytes(checkpoint.config, peer))
    if args.draft is not None and args.draft.is_dir():
        files.head = args.models / f"{name}-draft-{content_of(args.draft)}-{precision}.pte"
        draft = open_draft(args.draft, checkpoint)
        read = _lowered(lambda: DraftDecoder(draft, checkpoint, precision, CONTEXT), files.head, files.head.with_suffix(".json"), "")
        files.head_bytes = sum(size for op, size in read.items() if op != "embedding")
    elif args.draft is not None:
        files.head, files.head_bytes = args.draft, args.draft.stat().st_size  # the embedding included: an upper bound
    return files


def content_of(head: Path) -> str:
    """Short name of what a head's directory, or program, holds."""
    files = [head] if head.is_file() else sorted(f for f in head.iterdir() if f.suffix in (".json", ".safetensors", ".bin"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def traces_of(args, record) -> list:
    """The recorded traces, kept beside the models: those of the checkpoint and head that are there now."""
    from training.checkpoint import open_checkpoint
    from training.draft_files import fingerprint

    checkpoint = open_checkpoint(args.checkpoint)
    drafts = "ngrams" if args.draft is None else content_of(args.draft)
    options = "".join(f"-{value}" for name, value in args.options.items() if name != "drafter")
    path = args.models / f"traces-{fingerprint(checkpoint.tensors, checkpoint.config):016x}-{drafts}{options}.pickle"
    _once(path, "", lambda part: part.write_bytes(pickle.dumps(record(checkpoint))))
    return pickle.loads(path.read_bytes())  # our own file


def synthetic(args, size: str, precision: str, traces) -> Files:
    from benchmarks.decode_synthetic import head_of
    from benchmarks.decode_synthetic import synthetic as make
    from benchmarks.dense_twin import export_parts, weight_bytes
    from export.decoder import Decoder
    from export.draft_decoder import DraftDecoder

    model, peer = make(size, traces), PRECISIONS[precision]
    stamp = f"{hash_of(traces):08x}"
    sparse, head = args.models / f"{size}-{stamp}-{precision}.pte", args.models / f"{size}-draft-{precision}.pte"
    layer, last = (args.models / f"{size}-dense-{part}-{peer}.pte" for part in ("layer", "head"))
    sizes = _lowered(lambda: Decoder(model, precision, CONTEXT), sparse, sparse.with_suffix(".json"), "(minutes for the large ones) ")
    files = Files(size, precision, model.config, sparse, sizes, (layer, last), weight_bytes(model.config, peer), traces=traces)
    if not (layer.is_file() and last.is_file()):
        print(f"exporting {layer.name} ...", file=sys.stderr, flush=True)
        export_parts(model.config, peer, CONTEXT, layer, last)
    if args.draft is not None:
        read = _lowered(lambda: DraftDecoder(*head_of(model), precision, CONTEXT), head, head.with_suffix(".json"), "")
        files.head, files.head_bytes = head, sum(size for op, size in read.items() if op != "embedding")
    return files


def hash_of(traces) -> int:
    """Of the routing, which the router's weights hold."""
    import zlib

    return zlib.crc32(b"".join(trace.used_LSE.tobytes() for trace in traces))


class Dense:
    """The twin, timed: the same tokens, one by one or in chunks. As one program, or as a program a layer and one for the
    head: then the calls from Python add some 20 us a layer."""

    def __init__(self, files: Files) -> None:
        import torch
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  its kernels

        from runtime_delegates.loader import executorch_runtime
        from runtime_delegates.logs import quiet_log

        def load(path):
            program = executorch_runtime._load_program(str(path))
            return program, program.load_method("forward")

        self._torch = torch
        with quiet_log():
            if len(files.dense) == 1:
                self._embed, self._layers, self._head = None, [load(files.dense[0])], None
            else:
                c = files.config
                self._embed = torch.full((c.vocab_size, c.hidden_size), 0.1).mul_(torch.linspace(-1, 1, c.hidden_size))
                self._layers = [load(files.dense[0]) for _ in range(c.num_hidden_layers)]
                self._head = load(files.dense[1])
        self._chunk_ms: dict[int, float] = {}

    def run(self, ids: list[int], start: int) -> None:
        tensor = self._torch.tensor
        at, x = tensor([start]), tensor([ids])
        if self._embed is not None:
            x = self._embed[x]
        for _, layer in self._layers:
            x = layer((x, at))[0]
        if self._head is not None:
            self._head[1]((x,))

    def plain(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """(wall, CPU) milliseconds a token of decoding behind the prompt."""
        for at in range(0, len(prompt), 64):
            self.run(prompt[at : at + 64], at)
        wall, cpu = time.perf_counter(), time.process_time()
        for i in range(tokens):
            self.run([5], len(prompt) + i)
        return (time.perf_counter() - wall) * 1e3 / tokens, (time.process_time() - cpu) * 1e3 / tokens

    def chunk_ms(self, tokens: int, start: int) -> float:
        """Of a chunk: the best of three, measured once until `forget`."""
        if tokens not in self._chunk_ms:
            times = []
            for _ in range(3):
                began = time.perf_counter()
                self.run([5] * tokens, start)
                times.append((time.perf_counter() - began) * 1e3)
            self._chunk_ms[tokens] = min(times)
        return self._chunk_ms[tokens]

    def forget(self) -> dict[int, float]:
        measured, self._chunk_ms = self._chunk_ms, {}
        return measured


def weights_read(sizes: dict[str, int]) -> tuple[int, int]:
    """(bytes of the experts, bytes of everything else that a token reads). The embedding is a look-up, but where the head
    shares its matrix, which is counted there, all of it is read."""
    experts = sum(size for name, size in sizes.items() if "ffn" in name)
    return experts, sum(size for name, size in sizes.items() if "ffn" not in name and (name != "embedding" or "logits" not in sizes))
