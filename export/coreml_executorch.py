"""Writes a CoreMLDecoder as a .pte for ExecuTorch's Core ML delegate, and takes the package out of such a file again.

The delegate holds the same program as the .mlpackage, with one difference: torch.export cannot write to a slice that starts
at an input's value, so that a cache is updated as a product with 0/1 matrices. That writes the whole cache in every step.

Not possible here: gathered experts. Their dense function would be a second method, and the methods of a .pte do not share
Core ML states.

Errors  RuntimeError if anything is left outside the delegate, or a file does not hold one.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from export.coreml_compress import Compression, compressing, pass_names
from export.coreml_decoder import Chunk, CoreMLDecoder
from export.coreml_graph import CHUNK_LENGTHS, example, input_shapes, inventory, quiet
from export.ops import MAX_TOKENS

DELEGATE = "CoreMLBackend"


class OneHotChunk(Chunk):
    """Updates a cache without slices."""

    def __init__(self, n_past: Tensor, tree_mask: Tensor, *rest) -> None:
        super().__init__(n_past, tree_mask, *rest)
        rows = rest[-1]
        row_C1 = torch.arange(rows, dtype=torch.int32)[:, None]
        new_T = n_past + torch.arange(MAX_TOKENS, dtype=torch.int32)[: tree_mask.shape[0]]
        self.moved_CW = (row_C1 == self.window[None]).float()
        self.new_CT = (row_C1 == new_T[None]).float()
        self.unmoved_C1 = 1.0 - self.moved_CW.sum(dim=1, keepdim=True)
        self.old_C1 = 1.0 - self.new_CT.sum(dim=1, keepdim=True)

    def update(self, cache_CX: Tensor, rows_TX: Tensor) -> None:
        moved_WX = self.moves_WW @ cache_CX.index_select(0, self.window)
        compacted_CX = cache_CX * self.unmoved_C1 + self.moved_CW @ moved_WX
        cache_CX.copy_(compacted_CX * self.old_C1 + self.new_CT @ rows_TX)


def write_pte(decoder: CoreMLDecoder, path: Path, compression: Compression, metadata: dict):
    """Writes `path` -> lower.Lowered."""
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from executorch.exir.delegate import executorch_call_delegate

    decoder.chunk_type = OneHotChunk
    tokens = torch.export.Dim("tokens", min=2, max=MAX_TOKENS)  # torch gives 1 a graph of its own; this one serves it too
    shapes = ({1: tokens}, {0: tokens}, None, {0: tokens}, None)
    with quiet(), torch.no_grad():
        program = torch.export.export(decoder.eval(), example(4), dynamic_shapes=shapes)
        specs = CoreMLBackend.generate_compile_specs(
            minimum_deployment_target=ct.target.iOS18, compute_precision=ct.precision.FLOAT16, pass_names=pass_names())
        specs.append(CoreMLBackend.generate_enumerated_shapes_compile_spec(program, {
            name: [list(input_shapes(length)[name]) for length in CHUNK_LENGTHS]
            for name in ("token_ids", "positions", "tree_mask")}))
        with compressing(compression):
            edge = to_edge_transform_and_lower(
                program, partitioner=[CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)],
                constant_methods={key: value for key, value in metadata.items() if not isinstance(value, str)},
                # The check of the dialect evaluates the number of tokens, which fixes it to the example's.
                compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
            )
        nodes = [node for node in edge.exported_program().graph.nodes if node.op == "call_function"]
        calls = [node for node in nodes if node.target is executorch_call_delegate]
        left = Counter(str(node.target) for node in nodes if node not in calls and "getitem" not in str(node.target))
        if len(calls) != 1 or left:
            raise RuntimeError(f"the model did not become one {DELEGATE}: {len(calls)} delegates, left over {dict(left)}; "
                               "adapt export/coreml_decoder.py")
        with open(path, "wb") as file:
            edge.to_executorch().write_to_file(file)
            file.flush()
            os.fsync(file.fileno())
    lowered = inventory(extract_package(path, path.with_name("extracted")), compression)
    lowered.file_bytes = path.stat().st_size
    lowered.delegates = Counter({f"ExecuTorch {DELEGATE}": 1})
    return lowered


def extract_package(pte: Path, directory: Path) -> Path:
    """Writes the Core ML package of a .pte into `directory` and returns its path."""
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.exir._serialize._program import deserialize_pte_binary

    program = deserialize_pte_binary(pte.read_bytes()).program
    plan = next((plan for plan in program.execution_plan if plan.name == "forward"), None)
    if plan is None or [delegate.id for delegate in plan.delegates] != [DELEGATE]:
        raise RuntimeError(f"{pte} does not hold one {DELEGATE}; export it with export/to_coreml.py --executorch")
    data = program.backend_delegate_data[plan.delegates[0].processed.index].data
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    executorchcoreml.unflatten_directory_contents(bytes(data), str(directory))
    return next(directory.rglob("*.mlpackage"))


def pte_metadata(pte: Path) -> dict:
    """Constant methods of a .pte; ExecuTorch runs them on any machine."""
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(pte)
    values = {}
    for name in program.method_names - {"forward"}:
        result = program.load_method(name).execute([])
        values[name] = result[0] if len(result) == 1 and name not in ("get_eos_ids", "get_chunk_lengths") else list(result)
    return values
