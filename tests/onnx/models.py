"""Modules of `blockffn::` ops as ONNX models, driven like the delegate's methods so that both take the same tests."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from onnx.reference import ReferenceEvaluator

from export.onnx_graph import write_graph
from export.program import packing_into
from runtime_delegates.onnx_model import operator_library


def write(module, example, path: Path) -> dict[str, int]:
    """Writes the module; example as programs.to_edge takes it. Returns how often each operator occurs."""
    tokens = example[0].shape[1 if example[0].shape[0] == 1 else 0]
    T = torch.export.Dim("T", min=1, max=64)
    shapes = tuple(
        {0: T} if x.shape[0] == tokens else {1: T} if tuple(x.shape[:2]) == (1, tokens) else None for x in example
    )
    with torch.no_grad():
        program = torch.export.export(module.eval(), example, dynamic_shapes=shapes).run_decompositions({})
        outputs = module(*example)
    count = len(outputs) if isinstance(outputs, tuple) else 1
    for buffer in module.buffers():
        if buffer.shape[0] > 64:
            buffer.zero_()
    with packing_into(str(path.parent)):
        compiler = write_graph(program, path, {}, [f"in_{i}" for i in range(len(example))],
                               [f"out_{i}" for i in range(count)])
    return {name: compiler.builder.op_names.count(name) for name in compiler.builder.op_names}


def session(path, threads=1, plain=False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if not plain:
        options.register_custom_ops_library(str(operator_library()))
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Method:
    """A model with its own caches; execute() as ExecuTorch's methods have it. in_place=False keeps two copies;
    plain=True leaves our library out."""

    def __init__(self, path, threads=1, in_place=True, plain=False):
        self.session, self.in_place = session(path, threads, plain), in_place
        inputs = self.session.get_inputs()
        self.names = [i.name for i in inputs if i.name.startswith("in_")]
        self.caches = {i.name: np.zeros(i.shape, np.float32) for i in inputs if i.name.startswith("past_")}
        self.values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in self.caches.items()}
        self.results = [o.name for o in self.session.get_outputs() if o.name.startswith("out_")]

    def execute(self, inputs):
        feeds = {name: np.ascontiguousarray(x.numpy()) for name, x in zip(self.names, inputs, strict=True)}
        if not self.in_place:
            presents = [name.replace("past_", "present_") for name in self.caches]
            got = self.session.run(self.results + presents, feeds | self.caches)
            self.caches = dict(zip(self.caches, got[len(self.results):], strict=True))
            return [torch.from_numpy(y) for y in got[: len(self.results)]]
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name in self.results:
            binding.bind_output(name, "cpu")
        for name, value in self.values.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_", "present_"), value)
        self.session.run_with_iobinding(binding)
        return [torch.from_numpy(y.numpy()) for y in binding.get_outputs()[: len(self.results)]]


class Reference:
    """The same in onnx's reference evaluator, numpy that shares nothing with ONNX Runtime."""

    def __init__(self, path):
        self.model = ReferenceEvaluator(str(path))
        graph = self.model.proto_.graph
        self.names = [i.name for i in graph.input if i.name.startswith("in_")]
        self.caches = {i.name: np.zeros([d.dim_value for d in i.type.tensor_type.shape.dim], np.float32)
                       for i in graph.input if i.name.startswith("past_")}
        self.results = len(graph.output) - len(self.caches)

    def execute(self, inputs):
        got = self.model.run(None, {n: x.numpy() for n, x in zip(self.names, inputs, strict=True)} | self.caches)
        self.caches = dict(zip(self.caches, got[self.results:], strict=True))
        return [torch.from_numpy(y) for y in got[: self.results]]


RUNTIMES = {"kernels": Method, "bodies": lambda path: Method(path, plain=True), "reference": Reference}
