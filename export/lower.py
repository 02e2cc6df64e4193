"""Lowers a Decoder or a DraftDecoder to a .pte file: torch.export, one BlockFFN delegate, ExecuTorch program.

Every node must end up in the delegate; what is left over would need other kernels on the device, so
it is refused. Weights never add up in memory: the Decoder's parameters are views of mapped files,
and the backend streams what it packs into a file beside the program.
"""

import operator
import os
import struct
import tempfile
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable, Iterator

import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.delegate import executorch_call_delegate

from export.backend import BlockFFNBackend, BlockFFNPartitioner
from export.decoder import FORMAT_VERSION  # noqa: F401  part of this module's interface
from export.program import packing_into

SEGMENT_ALIGNMENT = 16384  # pages of recent phones


@dataclass
class Lowered:
    """What a program consists of. Bytes by operator count each weight once, where it is read first."""

    file_bytes: int
    delegates: Counter = field(default_factory=Counter)  # backend -> calls
    ops: Counter = field(default_factory=Counter)  # operator -> nodes inside our delegate
    weight_bytes: Counter = field(default_factory=Counter)  # operator -> packed bytes


def export_program(module) -> torch.export.ExportedProgram:
    """The graph of a Decoder or DraftDecoder for any T in 1..64."""
    inputs, shapes = module.example()
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)


@contextmanager
def one_thread() -> Iterator[None]:
    """Packing works on blocks of the cache's size, where threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """torch and ExecuTorch warn about each other's deprecated names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def lower(
    decoder,
    path: str,
    eos_ids: list[int] | None = None,
    on_packed: Callable[[int], None] | None = None,
) -> Lowered:
    """Writes the program of a Decoder or a DraftDecoder (which has no eos_ids) to `path`; temporary files lie beside it. on_packed hears of packed bytes.

    Raises RuntimeError if a node would run outside our delegate, OSError if the disk is full.
    """
    directory = os.path.dirname(os.path.abspath(path))
    temporary = tempfile.TemporaryDirectory(prefix="weights.", suffix=".part", dir=directory)
    with quiet_warnings(), temporary as work:
        with packing_into(work, on_packed), one_thread():
            edge = to_edge_transform_and_lower(
                export_program(decoder),
                partitioner=[BlockFFNPartitioner()],
                constant_methods=decoder.metadata() if eos_ids is None else decoder.metadata(eos_ids),
                compile_config=EdgeCompileConfig(_skip_dim_order=True),
            )
        lowered = _inventory(edge.exported_program().graph_module)
        program = edge.to_executorch(ExecutorchBackendConfig(segment_alignment=SEGMENT_ALIGNMENT))
        with open(path, "wb") as file:
            program.write_to_file(file)
            file.flush()
            file.write(check_trailer(path))
            file.flush()
            os.fsync(file.fileno())
    lowered.file_bytes = os.path.getsize(path)
    return lowered


def check_trailer(path: str) -> bytes:
    """What ends our files: "BFCHECK1", bytes of the program's flatbuffer (u64), their CRC-32 (u64).

    ExecuTorch ends the process when some fields of a flatbuffer are damaged; with this the runtimes see it before.
    """
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(24)[16:])[0]  # of the extended header
        file.seek(0)
        return b"BFCHECK1" + struct.pack("<QQ", size, zlib.crc32(file.read(size)))


def _inventory(graph_module: torch.fx.GraphModule) -> Lowered:
    """Counts delegates and what they hold; raises RuntimeError unless there is exactly one and nothing else."""
    lowered, left = Lowered(0), Counter()
    for node in graph_module.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if node.target is not executorch_call_delegate:
            left[str(node.target)] += 1
            continue
        module = getattr(graph_module, node.args[0].target)
        lowered.delegates[module.backend_id] += 1
        info = module.meta.get("_delegate_info_meta") or {}
        lowered.ops.update(info.get("ops", {}))
        lowered.weight_bytes.update(info.get("weight_bytes", {}))
    if left or lowered.delegates != Counter({BlockFFNBackend.__name__: 1}):
        raise RuntimeError(
            f"the model did not become one {BlockFFNBackend.__name__} delegate: {dict(lowered.delegates)} delegates, "
            f"left over {dict(left)}; use only blockffn:: operators in export/decoder.py"
        )
    return lowered
