"""Writes a Decoder as an ONNX graph of one operator, blockffn::decoder, with the packed weights as external data.

The operator's kernel (runtime_delegates/onnxruntime) runs the operator list of the ExecuTorch program, which is its
first input. Its body, a function of the file, calls one function per operator (onnx_functions.py), so that runtimes
without our library run the same file. List and weights come from the walk that writes the ExecuTorch program
(export/backend.py): both formats hold the same operators and the same packed bytes.

Inputs   token_ids [1,T], positions [T], n_past [1], tree_mask [T], kv_src [64], logits_start [1], all int64, and
         past_0, past_1, ... float32 [C, values of a token].
Outputs  logits [1,T,V], hidden [1,T,D], and present_i for every past_i. A caller that binds one tensor as past_i and
         present_i has it updated in place; any other pays a copy of the cache.
Weights  one tensor each: packed ones as uint8 [bytes] (float32 [bytes / 4] where they are not quantized), norms and frequencies as
         float32; each starts at a multiple of 64 bytes of the data file, so that the runtime's mapping of it serves
         the kernels as it is.
Source   ONNX IR version 10; export/ops.py for the operators.
"""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export import onnx_functions as functions
from export.decoder import Decoder
from export.onnx_functions import Body, Ffn, Matrix
from export.program import ALIGN, ProgramBuilder, packing_into

DOMAIN, DOMAIN_VERSION = "blockffn", 1
IR_VERSION, OPSET = 10, 21  # ONNX Runtime 1.21 reads both
OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
TOKENS = "T"
INPUT_NAMES = ("token_ids", "positions", "n_past", "tree_mask", "kv_src", "logits_start")
OUTPUT_NAMES = ("logits", "hidden")


class OnnxBuilder:
    """Collects values and operators as ProgramBuilder does, and becomes an ONNX model."""

    def __init__(self, data_name: str, input_names=INPUT_NAMES, output_names=OUTPUT_NAMES) -> None:
        self.data_name, self.input_names, self.output_names = data_name, input_names, output_names
        self.program = ProgramBuilder()  # each weight a tensor of its own
        self.library_program = ProgramBuilder(outputs=self.program.outputs)  # all weights in one tensor
        self.names, self.kinds, self.dims, self.places, self.dtypes = [], [], [], [], []
        self.ops: list[tuple] = []

    @property
    def outputs(self) -> list[int]:
        return self.program.outputs

    @property
    def op_names(self) -> list[str]:
        return self.program.op_names

    def value(self, kind: str, dtype: str, dims: Iterable[int] = (), offset: int = 0, size: int = 0) -> int:
        """Adds a value and returns its id. A dim of -1 is the number of tokens."""
        dims, index = list(dims), self.kinds.count(kind)
        # Where weights are tensors of their own, the offset in the operator list says which of them.
        identity = self.program.value(kind, dtype, dims, index * ALIGN if kind == "weight" else offset, size)
        self.library_program.value(kind, dtype, dims, offset, size)
        prefix = {"state": "past", "temporary": "value"}.get(kind, kind)
        self.names.append(self.input_names[index] if kind == "input" else f"{prefix}_{index}")
        self.kinds.append(kind)
        self.dims.append([TOKENS if d == -1 else d for d in dims])
        self.places.append((offset, size))
        self.dtypes.append(dtype)
        return identity

    def op(self, name: str, args: Iterable[int | None], outs: Iterable[int], attrs: Iterable[int | float] = ()) -> None:
        args, outs, attrs = list(args), list(outs), list(attrs)
        for program in (self.program, self.library_program):
            program.op(name, args, outs, attrs)
        self.ops.append((name, args, outs, attrs))

    def models(self, metadata: dict, data: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The whole model over the packed weights in `data`, and the one for our library alone; metadata values become
        JSON text."""
        for identity, name in zip(self.outputs, self.output_names, strict=True):
            self.names[identity] = name
        with open(data, "rb") as file:
            bodies = _Bodies(self, file)
            nodes = [bodies.call(*op) for op in self.ops]
        weights = [self._external(i, bodies.quants.get(i)) for i in self._ids("weight")]
        whole = self._model(self.program, weights, metadata)
        call = whole.graph.node[0]
        whole.functions.extend([*bodies.functions, helper.make_function(DOMAIN, "decoder", call.input, call.output, nodes, OPSETS)])
        size = data.stat().st_size
        return whole, self._model(self.library_program, [self._tensor("weights", TensorProto.UINT8, [size], 0, size)], metadata)

    def _model(self, program: ProgramBuilder, weights: list[TensorProto], metadata: dict) -> onnx.ModelProto:
        """One decoder node."""
        inputs, states = self._ids("input"), self._ids("state")
        listed = numpy_helper.from_array(np.frombuffer(program.serialize("weights"), np.uint8), "program")
        presents = [_present(self.names[i]) for i in states]
        names = ["program", *(tensor.name for tensor in weights), *(self.names[i] for i in inputs + states)]
        graph = helper.make_graph(
            [helper.make_node("decoder", names, [*self.output_names, *presents], "decoder", domain=DOMAIN)],
            "blockffn_decoder",
            [self._info(i, self.names[i]) for i in inputs + states],
            [self._info(i, self.names[i]) for i in self.outputs]
            + [self._info(i, name) for i, name in zip(states, presents, strict=True)],
            [listed, *weights],
        )
        model = helper.make_model(graph, producer_name="blockffn", opset_imports=OPSETS, ir_version=IR_VERSION)
        add_metadata(model, metadata)
        return model

    def _ids(self, kind: str) -> list[int]:
        return [i for i, k in enumerate(self.kinds) if k == kind]

    def _info(self, identity: int, name: str) -> onnx.ValueInfoProto:
        element = TensorProto.INT64 if self.dtypes[identity] == "int64" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, element, self.dims[identity])

    def _external(self, identity: int, quant: str | None) -> TensorProto:
        offset, size = self.places[identity]
        bytes_each = 4 if quant is None else functions.element_bytes(quant)
        element = TensorProto.FLOAT if bytes_each == 4 else TensorProto.UINT8
        dims = self.dims[identity] if quant is None else [size // bytes_each]
        return self._tensor(self.names[identity], element, dims, offset, size)

    def _tensor(self, name: str, element: int, dims: list[int], offset: int, size: int) -> TensorProto:
        """A range of the data file."""
        tensor = TensorProto(name=name, data_type=element, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, text in (("location", self.data_name), ("offset", str(offset)), ("length", str(size))):
            tensor.external_data.add(key=key, value=text)
        return tensor


class _Bodies:
    """One function for each operator of different sizes or settings; the headers of the packed weights tell them."""

    def __init__(self, builder: OnnxBuilder, file) -> None:
        self.functions: list[onnx.FunctionProto] = []
        self.quants: dict[int, str] = {}  # of packed weights
        self._builder, self._file, self._names = builder, file, {}

    def call(self, name: str, args: list, outs: list, attrs: list) -> onnx.NodeProto:
        """A node of the decoder's body; what it calls is added to the functions."""
        b = self._builder
        present = [a for a in args if a is not None]
        f = Body([f"in_{i}" for i in range(len(present))])
        slots = iter(f.inputs)
        results = self._body(f, name, args, [None if a is None else next(slots) for a in args], attrs)
        results = results if isinstance(results, list) else [results]
        if name in ("rms_norm", "add") and len(b.dims[outs[0]]) != len(b.dims[args[0]]):  # a batch comes or goes
            shape = [-1 if d == TOKENS else d for d in b.dims[outs[0]]]
            results = [f.Reshape(results[0], f.ints(*shape))]
        key = name, f.function(DOMAIN, name, results, OPSETS).SerializeToString(deterministic=True)
        if key not in self._names:
            count = sum(other == name for other, _ in self._names)
            self._names[key] = f"{name}_{count}"
            self.functions.append(f.function(DOMAIN, self._names[key], results, OPSETS))
        states = [_present(b.names[a]) for a in present if b.kinds[a] == "state"]
        called = self._names[key]
        return helper.make_node(called, [b.names[a] for a in present], [b.names[o] for o in outs] + states, domain=DOMAIN)

    def _header(self, identity: int) -> Matrix | Ffn:
        self._file.seek(self._builder.places[identity][0])
        kind = Matrix if self._builder.dtypes[identity] == "matrix" else Ffn
        header = kind.read(self._file.read(functions.FFN_HEADER))
        self.quants[identity] = header.quant
        return header

    def _body(self, f: Body, name: str, args: list, inputs: list, attrs: list):
        make, dims = getattr(functions, name), self._builder.dims
        if name in ("embedding", "linear", "logits"):
            return make(f, *inputs, self._header(args[1]), *attrs)
        if name == "chunk_sparse_ffn":
            return make(f, *inputs, self._header(args[1]))
        if name == "mla_attention":
            heads, nope, eps = attrs
            return make(f, *inputs, matrices=(self._header(args[3]), self._header(args[4])), heads=heads, nope=nope,
                        eps=eps, capacity=dims[args[6]][0], rope=2 * dims[args[5]][0])
        if name == "gqa_attention":
            heads, kv_heads = attrs
            return make(f, *inputs, heads=heads, kv_heads=kv_heads, capacity=dims[args[4]][0], dim=2 * dims[args[3]][0])
        return make(f, *inputs, *attrs)


def _present(name: str) -> str:
    return name.replace("past_", "present_")


def write_graph(program, path: Path, metadata: dict, input_names=INPUT_NAMES, output_names=OUTPUT_NAMES):
    """Writes a functional exported program of our operators as `path`, with `path`.data and library_path(path), checked.

    Returns the compiler, which counts operators and packed bytes.
    """
    from export.backend import compile_graph

    data = path.with_name(path.name + ".data")
    compiler = compile_graph(program, OnnxBuilder(data.name, input_names, output_names))
    weights, _, _ = compiler.weights.finish()
    shutil.move(weights, data)
    make_public(data)
    for model, to in zip(compiler.builder.models(metadata, data), (path, library_path(path)), strict=True):
        _save(model, to)
    return compiler


def library_path(path: Path) -> Path:
    """Of the model for our library alone: without the functions, which are most of the time to load it, and with all
    weights in one tensor, because the runtime opens and maps each by itself."""
    return path.with_suffix(".library.onnx")


def _save(model: onnx.ModelProto, path: Path) -> None:
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())
    onnx.checker.check_model(str(path), full_check=True)


def write_onnx(decoder: Decoder, path: Path, eos_ids: list[int] | None = None,
               on_packed: Callable[[int], None] | None = None):
    """Writes `path` with `path`.data and library_path(path) beside it -> lower.Lowered. on_packed hears of packed bytes.

    Raises OSError if the disk is full, ValueError for weights that cannot be packed.
    """
    from export.lower import Lowered, export_program, one_thread, quiet_warnings  # ExecuTorch takes seconds

    with quiet_warnings(), packing_into(str(path.parent), on_packed), one_thread():
        program = export_program(decoder).run_decompositions({})
        compiler = write_graph(program, path, decoder.metadata(eos_ids))
    size = path.stat().st_size + path.with_name(path.name + ".data").stat().st_size
    return Lowered(size, Counter({f"domain {DOMAIN}": 1}), Counter(compiler.builder.op_names),
                   Counter(compiler.weight_bytes))


def add_metadata(model: onnx.ModelProto, metadata: dict) -> None:
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})


def make_public(path: Path) -> None:
    """Temporary files are private; this one gets the permissions of any new file."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
