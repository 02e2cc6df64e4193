"""The ExecuTorch side of the export: which nodes our backend takes, and how they become a program.

BlockFFNPartitioner claims every `blockffn::` op of a float32 graph, and with it the weights and the
caches that only those ops use. BlockFFNBackend.preprocess packs the weights and lists the ops.
"""

import operator
from collections import Counter
from typing import final

import torch
from executorch.exir._serialize._cord import FileBackedData
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from executorch.exir.backend.canonical_partitioners.pattern_op_partitioner import generate_partitions_from_list_of_nodes
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data, tag_mutated_buffer
from torch.export.exported_program import ExportedProgram
from torch.fx import Node

import export.ops  # noqa: F401  registers the operators
from export.ops import split_kv_b
from export.pack import PAGE, matrix_pieces, pack_ffn
from export.program import OPCODE, ProgramBuilder, WeightsFile
from export.quantize import finite


def op_name(node: Node) -> str | None:
    """ "linear" for a call of blockffn::linear, None for anything that is not ours."""
    if node.op != "call_function":
        return None
    schema = getattr(node.target, "_schema", None)
    namespace, _, name = (schema.name if schema is not None else "").partition("::")
    return name if namespace == "blockffn" and name in OPCODE else None


@final
class BlockFFNPartitioner(Partitioner):
    """Tags `blockffn::` ops, and the constants and caches that belong to them, for BlockFFNBackend."""

    def __init__(self) -> None:
        self.delegation_spec = DelegationSpec(BlockFFNBackend.__name__, [])

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        graph_module = exported_program.graph_module
        ours = [
            node
            for node in graph_module.graph.nodes
            if op_name(node) is not None or (node.target is operator.getitem and op_name(node.args[0]) is not None)
        ]
        tags = {}
        for partition in generate_partitions_from_list_of_nodes(graph_module, [ours]):
            tag = f"blockffn_{partition.id}"
            tags[tag] = self.delegation_spec
            for node in partition.nodes:
                node.meta["delegation_tag"] = tag
        tag_constant_data(exported_program)
        tag_mutated_buffer(exported_program)
        return PartitionResult(tagged_exported_program=exported_program, partition_tags=tags)


@final
class BlockFFNBackend(BackendDetails):
    """Compiles one partition. Errors name the node that cannot be expressed."""

    @classmethod
    def copy_exported_program_for_preprocess(cls, edge_program, compile_specs):
        # preprocess only reads, and a copy would hold every weight a second time.
        return edge_program

    @staticmethod
    def preprocess(edge_program: ExportedProgram, compile_specs: list[CompileSpec]) -> PreprocessResult:
        compiler = compile_graph(edge_program, ProgramBuilder())
        path, key, digest = compiler.weights.finish()
        store = NamedDataStore()
        if len(compiler.weights):
            store.add_named_data(key, FileBackedData(path, cleanup=True, sha256=digest), alignment=PAGE)
        else:
            compiler.weights.discard()
            key = ""
        return PreprocessResult(
            processed_bytes=compiler.builder.serialize(key),
            data_store_output=store.get_named_data_store_output(),
            _delegate_info_meta={
                "ops": dict(Counter(compiler.builder.op_names)),
                "weight_bytes": dict(compiler.weight_bytes),
                "segment_bytes": len(compiler.weights),
            },
        )


def compile_graph(program: ExportedProgram, builder) -> "_Compiler":
    """Packs the weights of a functional graph of our operators and lists its operators in `builder`, which has the
    methods of ProgramBuilder; the caller ends or discards `.weights`."""
    compiler = _Compiler(program, builder)
    try:
        for node in program.graph.nodes:
            compiler.visit(node)
    except BaseException:  # also Ctrl-C: nothing may stay behind
        compiler.weights.discard()
        raise
    return compiler


class _Compiler:
    """Walks a partition's graph in order."""

    def __init__(self, program: ExportedProgram, builder) -> None:
        self.builder = builder
        self.weights = WeightsFile()
        self.weight_bytes: Counter[str] = Counter()  # by the operator that reads them first
        self._program = program
        self._signature = program.graph_signature
        self._ids: dict[Node, int] = {}
        self._packed: dict[tuple, int] = {}
        # A mutated cache is both input and output of the graph; the runtime updates it in place, so
        # the outputs that carry it disappear.
        self._mutated = set(self._signature.buffers_to_mutate)
        self._returned = [spec.arg.name for spec in self._signature.output_specs if spec.arg.name not in self._mutated]

    def visit(self, node: Node) -> None:
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            self._outputs(node)
        elif node.target is operator.getitem:
            source, index = node.args
            if index == 0:
                self._ids[node] = self._ids[source]
        elif (name := op_name(node)) is not None:
            self._op = {"final_norm": "rms_norm", "hidden_norm": "rms_norm", "final_add": "add"}.get(name, name)
            getattr(self, f"_{name}")(node, *node.args)
        else:
            raise RuntimeError(f"BlockFFNBackend cannot compile {node.format_node()}")

    def _placeholder(self, node: Node) -> None:
        sig = self._signature
        if node.name in sig.inputs_to_buffers and sig.inputs_to_buffers[node.name] in sig.buffers_to_mutate.values():
            self._ids[node] = self.builder.value("state", "float", node.meta["val"].shape)
        elif node.name in sig.user_inputs:
            value = node.meta["val"]
            dtypes = {torch.int64: "int64", torch.float32: "float"}
            if value.dtype not in dtypes:
                raise RuntimeError(f"input {node.name} is {value.dtype}; BlockFFNBackend takes float32 and int64")
            self._ids[node] = self.builder.value("input", dtypes[value.dtype], _dims(value))
        # Weights are packed where they are used, because the use decides the layout.

    def _outputs(self, node: Node) -> None:
        for result in node.args[0]:
            if result.name in self._returned:
                self.builder.outputs.append(self._ids[result])

    def _result(self, node: Node) -> int:
        """The value an op writes: an output of the partition if the graph returns it."""
        value = node.meta["val"]
        value = value[0] if isinstance(value, (tuple, list)) else value
        names = {node.name} | {
            user.name for user in node.users if user.target is operator.getitem and user.args[1] == 0
        }
        kind = "output" if names & set(self._returned) else "temporary"
        identity = self.builder.value(kind, "float", _dims(value))
        self._ids[node] = identity
        return identity

    def _tensor(self, node: Node) -> torch.Tensor:
        sig, program = self._signature, self._program
        if node.name in sig.inputs_to_parameters:
            return program.state_dict[sig.inputs_to_parameters[node.name]].detach()
        if node.name in sig.inputs_to_buffers:
            name = sig.inputs_to_buffers[node.name]
            return program.constants[name] if name in program.constants else program.state_dict[name]
        if node.name in sig.inputs_to_lifted_tensor_constants:
            return program.constants[sig.inputs_to_lifted_tensor_constants[node.name]]
        raise RuntimeError(f"{node.name} must be a constant weight: BlockFFNBackend packs weights at export")

    def _qualified_name(self, node: Node) -> str:
        """Name of a weight in the module."""
        sig = self._signature
        return (sig.inputs_to_parameters | sig.inputs_to_buffers).get(node.name, node.name)

    def _weight(self, dtype: str, nodes: tuple, variant: tuple, pieces, dims=(), align: int = 64) -> int:
        """A packed weight; packed once however often it is used in the same way."""
        key = (*nodes, *variant)
        if key not in self._packed:
            try:
                offset, size = self.weights.add(pieces(), align)
            except ValueError as error:
                raise ValueError(f"{', '.join(map(self._qualified_name, nodes))}: {error}") from None
            self.weight_bytes[self._op] += size
            self._packed[key] = self.builder.value("weight", dtype, dims, offset, size)
        return self._packed[key]

    def _matrix(self, node: Node, quant: str, variant: str = "", view=lambda w: w) -> int:
        return self._weight("matrix", (node,), (quant, variant), lambda: matrix_pieces(view(self._tensor(node)), quant))

    def _floats(self, node: Node) -> int:
        tensor = self._tensor(node).float()
        return self._weight(
            "float", (node,), ("float",), lambda: [finite(tensor).numpy().astype("<f4").tobytes()], tensor.shape
        )

    def _embedding(self, node, token_ids, weight, scale, quant):
        self.builder.op(
            "embedding", [self._ids[token_ids], self._matrix(weight, quant)], [self._result(node)], [float(scale)]
        )

    def _rms_norm(self, node, x, weight, eps):
        self.builder.op("rms_norm", [self._ids[x], self._floats(weight)], [self._result(node)], [float(eps)])

    _final_norm = _hidden_norm = _rms_norm

    def _linear(self, node, x, weight, bias, scale, quant):
        bias = None if bias is None else self._floats(bias)
        self.builder.op(
            "linear", [self._ids[x], self._matrix(weight, quant), bias], [self._result(node)], [float(scale)]
        )

    def _logits(self, node, x, weight, start, scale, quant):
        args = [self._ids[x], self._matrix(weight, quant), self._ids[start]]
        self.builder.op("logits", args, [self._result(node)], [float(scale)])

    def _silu_mul(self, node, gate, up):
        self.builder.op("silu_mul", [self._ids[gate], self._ids[up]], [self._result(node)])

    def _add(self, node, a, b):
        self.builder.op("add", [self._ids[a], self._ids[b]], [self._result(node)])

    _final_add = _add

    def _chunk_sparse_ffn(self, node, x, router, router_norm, up, down, norm, eps, norm_scale, out_scale, quant):
        weights = (router, router_norm, up, down)
        settings = (norm, float(eps), float(norm_scale), float(out_scale), quant)
        ffn = self._weight(
            "ffn", weights, settings, lambda: pack_ffn(*map(self._tensor, weights), *settings), align=PAGE
        )
        self.builder.op("chunk_sparse_ffn", [self._ids[x], ffn], [self._result(node)])

    def _mla_attention(
        self,
        node,
        q,
        kv,
        kv_norm,
        kv_b_proj,
        inv_freq,
        cache,
        positions,
        n_past,
        tree_mask,
        kv_src,
        heads,
        nope,
        eps,
        quant,
        kv_quant="fp32",
    ):
        absorb = self._matrix(kv_b_proj, quant, "absorb", lambda w: split_kv_b(w, heads, nope)[0])
        expand = self._matrix(kv_b_proj, quant, "expand", lambda w: split_kv_b(w, heads, nope)[1])
        args = [self._ids[q], self._ids[kv], self._floats(kv_norm), absorb, expand, self._floats(inv_freq)]
        args += [self._ids[n] for n in (cache, positions, n_past, tree_mask, kv_src)]
        self.builder.op("mla_attention", args, [self._result(node)], [heads, nope, float(eps), *_cache_bits(kv_quant)])

    def _gqa_attention(
        self, node, q, k, v, inv_freq, key_cache, value_cache, positions, n_past, tree_mask, kv_src, heads, kv_heads,
        tree_rows=None, kv_quant="fp32",
    ):
        args = [self._ids[q], self._ids[k], self._ids[v], self._floats(inv_freq)]
        args += [self._ids[n] for n in (key_cache, value_cache, positions, n_past, tree_mask, kv_src)]
        args += [] if tree_rows is None else [self._ids[tree_rows]]
        self.builder.op("gqa_attention", args, [self._result(node)], [heads, kv_heads, *_cache_bits(kv_quant)])


def _cache_bits(kv_quant: str) -> list[int]:
    """The last setting of an attention operator, which only a quantized cache has."""
    return [] if kv_quant == "fp32" else [8]


def _dims(value: torch.Tensor) -> list[int]:
    """Sizes of a tensor with -1 for its token dimension."""
    return [int(size) if isinstance(size, int) else -1 for size in value.shape]
