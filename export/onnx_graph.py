"""Writes a Decoder as an ONNX graph of operators in domain `blockffn`, with the packed weights as external data.

The graph and the weights come from the walk that writes the ExecuTorch program (export/backend.py), so both hold
the same operators and the same packed bytes. runtime_delegates/onnxruntime implements the operators.

Inputs   token_ids [1,T], positions [T], n_past [1], tree_mask [T], kv_src [64], logits_start [1], all int64, and
         past_0, past_1, ... float32 [C, values of a token].
Outputs  logits [1,T,V], hidden [1,T,D], and present_i for every past_i. A caller that binds one tensor as past_i and
         present_i has it updated in place; any other pays a copy of the cache.
Weights  uint8 [bytes] for what export/pack.py packs, float32 for norms and frequencies; each starts at a multiple of
         64 bytes of the data file, so that the runtime's mapping of it serves the kernels as it is.
Source   ONNX IR version 10; export/ops.py for the operators.
"""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable

import onnx
from onnx import TensorProto, helper

from export.decoder import Decoder
from export.program import packing_into

DOMAIN, DOMAIN_VERSION = "blockffn", 1
IR_VERSION, OPSET = 10, 21  # ONNX Runtime 1.21 reads both
TOKENS = "T"
INPUT_NAMES = ("token_ids", "positions", "n_past", "tree_mask", "kv_src", "logits_start")
OUTPUT_NAMES = ("logits", "hidden")
ATTRIBUTES = {
    "embedding": ("scale",),
    "rms_norm": ("eps",),
    "final_norm": ("eps",),
    "linear": ("scale",),
    "logits": ("scale",),
    "silu_mul": (),
    "add": (),
    "chunk_sparse_ffn": (),
    "mla_attention": ("heads", "nope", "eps"),
    "gqa_attention": ("heads", "kv_heads"),
}


class OnnxBuilder:
    """Collects values and operators as ProgramBuilder does, as ONNX."""

    def __init__(self, data_name: str, input_names=INPUT_NAMES, output_names=OUTPUT_NAMES) -> None:
        self.data_name, self.input_names, self.output_names = data_name, input_names, output_names
        self.nodes, self.initializers, self.infos = [], [], []
        self.graph_inputs, self.states, self.names, self.kinds, self.dims = [], [], [], [], []
        self.outputs: list[int] = []
        self.op_names: list[str] = []

    def value(self, kind: str, dtype: str, dims: Iterable[int] = (), offset: int = 0, size: int = 0) -> int:
        """Adds a value and returns its id. A dim of -1 is the number of tokens."""
        identity, dims = len(self.names), [TOKENS if d == -1 else d for d in dims]
        name = f"value_{identity}"
        if kind == "weight":
            name = f"weight_{identity}"
            self.initializers.append(self._external(name, dtype, dims, offset, size))
        elif kind == "state":
            name = f"past_{len(self.states)}"
            self.states.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        elif kind == "input":
            name = self.input_names[len(self.graph_inputs)]
            element = TensorProto.INT64 if dtype == "int64" else TensorProto.FLOAT
            self.graph_inputs.append(helper.make_tensor_value_info(name, element, dims))
        self.names.append(name)
        self.kinds.append(kind)
        self.dims.append(dims)
        return identity

    def op(self, name: str, args: Iterable[int | None], outs: Iterable[int], attrs: Iterable[int | float] = ()) -> None:
        """Adds an operator; the caches that it reads are also its last outputs."""
        args, outs = list(args), list(outs)
        inputs = ["" if a is None else self.names[a] for a in args]
        while inputs and not inputs[-1]:
            inputs.pop()
        outputs = [self.names[o] for o in outs]
        outputs += [_present(self.names[a]) for a in args if a is not None and self.kinds[a] == "state"]
        batch = name == "rms_norm" and len(self.dims[outs[0]]) == 3
        op_type = "final_norm" if batch else name
        attributes = dict(zip(ATTRIBUTES[op_type], attrs, strict=True))
        # A name is what the runtime's errors and profiles show.
        node_name = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, outputs, node_name, domain=DOMAIN, **attributes))
        self.op_names.append(name)

    def _external(self, name: str, dtype: str, dims: list, offset: int, size: int) -> TensorProto:
        tensor = TensorProto(name=name, data_location=TensorProto.EXTERNAL)
        tensor.data_type = TensorProto.FLOAT if dtype == "float" else TensorProto.UINT8
        tensor.dims.extend(dims if dtype == "float" else [size])
        for key, text in (("location", self.data_name), ("offset", str(offset)), ("length", str(size))):
            tensor.external_data.add(key=key, value=text)
        return tensor

    def model(self, metadata: dict) -> onnx.ModelProto:
        """The whole model; metadata values become JSON text."""
        final = dict(zip(self.outputs, self.output_names, strict=True))
        rename = {self.names[i]: name for i, name in final.items()}
        for node in self.nodes:
            node.input[:] = [rename.get(name, name) for name in node.input]
            node.output[:] = [rename.get(name, name) for name in node.output]
        info = {i: helper.make_tensor_value_info(final.get(i, self.names[i]), TensorProto.FLOAT, self.dims[i])
                for i, kind in enumerate(self.kinds) if kind in ("temporary", "output")}
        presents = []
        for state in self.states:
            present = onnx.ValueInfoProto()
            present.CopyFrom(state)
            present.name = _present(state.name)
            presents.append(present)
        graph = helper.make_graph(
            self.nodes, "blockffn_decoder", self.graph_inputs + self.states,
            [info.pop(i) for i in self.outputs] + presents, self.initializers, value_info=list(info.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
        model = helper.make_model(graph, producer_name="blockffn", opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
        return model


def _present(name: str) -> str:
    return name.replace("past_", "present_")


def write_graph(program, path: Path, metadata: dict, input_names=INPUT_NAMES, output_names=OUTPUT_NAMES):
    """Writes a functional exported program of our operators as `path`, with `path`.data beside it, and checks it.

    Returns the compiler, which counts operators and packed bytes.
    """
    from export.backend import compile_graph

    data = path.with_name(path.name + ".data")
    compiler = compile_graph(program, OnnxBuilder(data.name, input_names, output_names))
    weights, _, _ = compiler.weights.finish()
    shutil.move(weights, data)
    os.chmod(data, 0o666 & ~_umask())  # temporary files are private
    with open(path, "wb") as file:
        file.write(compiler.builder.model(metadata).SerializeToString())
        file.flush()
        os.fsync(file.fileno())
    onnx.checker.check_model(str(path), full_check=True)
    return compiler


def write_onnx(decoder: Decoder, path: Path, eos_ids: list[int] | None = None,
               on_packed: Callable[[int], None] | None = None):
    """Writes `path` and `path`.data beside it -> lower.Lowered. on_packed hears of packed bytes.

    Raises OSError if the disk is full, ValueError for weights that cannot be packed.
    """
    from export.lower import Lowered, export_program, one_thread, quiet_warnings  # ExecuTorch takes seconds

    with quiet_warnings(), packing_into(str(path.parent), on_packed), one_thread():
        program = export_program(decoder).run_decompositions({})
        compiler = write_graph(program, path, decoder.metadata(eos_ids))
    size = path.stat().st_size + path.with_name(path.name + ".data").stat().st_size
    return Lowered(size, Counter({f"domain {DOMAIN}": 1}), Counter(compiler.builder.op_names),
                   Counter(compiler.weight_bytes))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
