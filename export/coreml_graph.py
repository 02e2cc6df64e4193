"""Writes a CoreMLDecoder as an .mlpackage: traced, converted by coremltools, compressed, counted.

A package has one function that computes every expert, or two: "main" gathers the experts that a chunk uses, "dense" computes
all of them where too many are used. The two share their weights in the file, and a state of one serves the other.

Errors  RuntimeError if a weight was not compressed or a shape is not enumerated; each says what to do.
Source  coremltools 9.0; target iOS 18, the first with states, blockwise scales and several enumerated inputs.
"""

import json
import logging
import shutil
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import numpy as np
import torch

from export.coreml_compress import Compression, compressing, pass_names
from export.coreml_decoder import CoreMLDecoder
from export.coreml_session import DENSE_FUNCTION, INPUTS
from export.ops import MAX_TOKENS

CHUNK_LENGTHS = (1, 2, 4, 8, 16, 32, 64)
TABLE_ROWS = ("linear", "matmul", "softmax", "gather", "topk", "slice_update")


@contextmanager
def quiet():
    """coremltools warns about torch's version and about every state, and draws bars of its own."""
    import tqdm

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    started = tqdm.tqdm.__init__
    tqdm.tqdm.__init__ = lambda self, *args, **kwargs: started(self, *args, **kwargs | {"disable": True})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tqdm.tqdm.__init__ = started


def example(tokens: int) -> tuple[torch.Tensor, ...]:
    """Inputs to trace with: the first tokens of a text."""
    inputs = {name: torch.zeros(shape, dtype=torch.int32) for name, shape in input_shapes(tokens).items()}
    return tuple((inputs | {"kv_src": inputs["kv_src"] - 1}).values())


def input_shapes(tokens: int) -> dict[str, tuple]:
    return {"token_ids": (1, tokens), "positions": (tokens,), "n_past": (1,), "tree_mask": (tokens, MAX_TOKENS),
            "kv_src": (MAX_TOKENS,)}


def convert(decoder: CoreMLDecoder):
    """The decoder as a coremltools model."""
    import coremltools as ct

    with torch.no_grad():
        traced = torch.jit.trace(decoder.eval(), example(4), check_trace=False)
    decoder.reset()
    inputs = []
    for name in INPUTS:
        shapes = list(dict.fromkeys(input_shapes(tokens)[name] for tokens in CHUNK_LENGTHS))
        shape = shapes[0] if len(shapes) == 1 else ct.EnumeratedShapes(shapes=shapes, default=shapes[0])
        inputs.append(ct.TensorType(name, shape, dtype=np.int32))
    outputs = [ct.TensorType(name, dtype=np.float32) for name in ("logits", "hidden")]
    if decoder.gathered is not None:
        outputs.append(ct.TensorType("overflow", dtype=np.int32))
    states = [ct.StateType(wrapped_type=ct.TensorType(shape=buffer.shape, dtype=np.float16), name=name)
              for name, buffer in decoder.named_buffers() if name.endswith("cache")]
    return ct.convert(
        traced, inputs=inputs, outputs=outputs, states=states, minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16, pass_pipeline=ct.PassPipeline(pass_names()), skip_model_load=True,
    )


def write_package(decoder: CoreMLDecoder, dense: CoreMLDecoder | None, path: Path, compression: Compression,
                  metadata: dict):
    """Writes `path` -> lower.Lowered. `dense` is the second function of a decoder that gathers experts."""
    import coremltools as ct

    with quiet():
        models = {"main": decoder} if dense is None else {"main": decoder, DENSE_FUNCTION: dense}
        parts = []
        for name, module in models.items():
            part = path.with_name(f"{name}.mlpackage")
            with compressing(compression):
                model = convert(module)
            model.save(str(part))
            parts.append(part)
        package = parts[0]
        if dense is not None:
            both = ct.utils.MultiFunctionDescriptor()
            for name, part in zip(models, parts):
                both.add_function(str(part), "main", name)
            both.default_function_name = "main"
            package = path.with_name("both.mlpackage")
            ct.utils.save_multifunction(both, str(package))
        model = ct.models.MLModel(str(package), skip_model_load=True)  # merging drops metadata
        spec = model.get_spec()
        spec.description.metadata.userDefined.update({key: json.dumps(value) for key, value in metadata.items()})
        ct.utils.save_spec(spec, str(path), weights_dir=model.weights_dir)
        for part in {*parts, package}:
            shutil.rmtree(part)
    return inventory(path, compression)


def inventory(path: Path, compression: Compression):
    """Counts what the saved package holds; RuntimeError unless every weight is compressed in every function."""
    from export.lower import Lowered
    from export.mil_interpreter import load_program

    _, program = load_program(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    lowered = Lowered(size, Counter({"Core ML " + "+".join(sorted(program.functions, reverse=True)): 1}))
    expected = 0 if compression.quant == "fp16" else len(compression.found)
    for name, function in program.functions.items():
        ops = Counter(op.op_type for op in function.operations if op.op_type != "const")
        compressed = {kind: n for kind, n in ops.items() if kind.startswith("constexpr_")}
        if sum(compressed.values()) != expected:
            raise RuntimeError(f"{sum(compressed.values())} of {expected} weights are compressed in function {name} of the "
                               "saved package; report this with the version of coremltools")
        if name == program.default_function_name:
            lowered.ops.update({kind: ops[kind] for kind in (*compressed, *TABLE_ROWS) if ops[kind]})
            lowered.ops["other"] = sum(ops.values()) - sum(lowered.ops.values())
    weights = sum(file.stat().st_size for file in path.rglob("weight.bin"))
    lowered.weight_bytes["+".join(compressed) or "linear"] = weights
    return lowered


def metadata_of(decoder: CoreMLDecoder, quant: str, eos_ids: list[int] | None) -> dict:
    """Under the names of the .pte's constant methods, as JSON."""
    gather = {} if decoder.gathered is None else {"get_gathered_experts": decoder.gathered, "get_gather_chunk": decoder.gather_chunk}
    return decoder.metadata(eos_ids) | {"get_chunk_lengths": list(CHUNK_LENGTHS), "get_quant": quant} | gather
