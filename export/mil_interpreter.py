"""Runs a saved Core ML package on any machine, one operator after the other: Core ML itself predicts on Apple systems only.

It reads what was written (the program, the weight file and the states), so it sees what a wrong conversion, a weight that
was not compressed or a state that is not updated would do. It knows the operators of our decoders; an unknown one is an
error. It says nothing about Apple's runtime: kernels, speed, or what the Neural Engine accepts.

Arithmetic  float16 values are held as float32 that float16 can represent; every operator computes in float32 and rounds
            its result to the type that the program declares. Real devices accumulate in float16 or float32.
Shapes      an input's shape must be one that the package declares, and the n-th shape of one enumerated input goes with
            the n-th of the others, as Core ML demands.
Errors      RuntimeError for a package that cannot be read, ValueError for inputs; each names the fix.
Source      the MIL operator reference of coremltools; compressed weights are decompressed by coremltools itself.
"""

from pathlib import Path

import numpy as np
import torch


def half(x: np.ndarray) -> np.ndarray:
    """float32 rounded to what float16 can hold; torch converts many times faster than numpy, and its products share their threads with others."""
    return torch.from_numpy(np.ascontiguousarray(x)).half().float().numpy()


def _softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _topk(x, k, axis, ascending=False, sort=True, return_indices=True, output_indices_dtype="int32"):
    order = np.argsort(x if ascending else -x, axis=axis, kind="stable").take(range(k), axis=axis)
    return np.take_along_axis(x, order, axis), order


def _bounds(x, begin, end, begin_mask, end_mask, squeeze_mask):
    """Index of a slice of x. A squeezed axis is one element."""
    index = []
    for i in range(x.ndim):
        low = None if begin_mask is not None and begin_mask[i] else int(begin[i])
        high = None if end_mask is not None and end_mask[i] else int(end[i])
        if squeeze_mask is not None and squeeze_mask[i]:
            index.append(int(begin[i]))
        else:
            index.append(slice(low, high))
    return tuple(index)


def _slice_by_index(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    assert stride is None or (np.asarray(stride) == 1).all()
    return x[_bounds(x, begin, end, begin_mask, end_mask, squeeze_mask)]


def _slice_update(x, update, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    assert stride is None or (np.asarray(stride) == 1).all()
    index = _bounds(x, begin, end, begin_mask, end_mask, squeeze_mask)
    if x[index].shape != update.shape:
        raise ValueError(f"a chunk of {len(update)} rows does not fit into {len(x)} rows at {begin[0]}; n_past is too large")
    x = x.copy()
    x[index] = update
    return x


def _gather(x, indices, axis, batch_dims=0, validate_indices=False):
    assert batch_dims == 0
    if not np.logical_and(indices < x.shape[axis], indices >= -x.shape[axis]).all():
        raise ValueError(f"an index reaches beyond the {x.shape[axis]} entries of a table; check token ids and positions")
    return np.take(x, indices, axis=axis)


def _cast(x, dtype):
    numpy_type = {"fp16": np.float32, "fp32": np.float32, "bool": bool}.get(dtype, dtype)
    return x.astype(numpy_type)


def _matmul(x, y, transpose_x=False, transpose_y=False):
    x, y = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(y))
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y else y).numpy()


def _linear(x, weight, bias=None):
    y = _matmul(x, weight, transpose_y=True)
    return y if bias is None else y + bias


OPERATORS = {
    "abs": lambda x: np.abs(x),
    "add": lambda x, y: x + y,
    "cast": _cast,
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "concat": lambda values, axis, interleave=False: np.concatenate([np.atleast_1d(v) for v in values], axis),
    "cumsum": lambda x, axis, exclusive=False, reverse=False: np.cumsum(x, axis, dtype=x.dtype),
    "equal": lambda x, y: x == y,
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "gather": _gather,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "identity": lambda x: x,
    "inverse": lambda x, epsilon=1e-4: 1 / (x + epsilon),
    "less": lambda x, y: x < y,
    "linear": _linear,
    "logical_and": lambda x, y: x & y,
    "matmul": _matmul,
    "maximum": lambda x, y: np.maximum(x, y),
    "minimum": lambda x, y: np.minimum(x, y),
    "mul": lambda x, y: x * y,
    "range_1d": lambda start, end, step: np.arange(start, end, step),
    "real_div": lambda x, y: x / y,
    "reduce_max": lambda x, axes=None, keep_dims=False: x.max(axis=_axes(axes), keepdims=keep_dims),
    "reduce_mean": lambda x, axes=None, keep_dims=False: x.mean(axis=_axes(axes), keepdims=keep_dims),
    "reduce_sum": lambda x, axes=None, keep_dims=False: x.sum(axis=_axes(axes), keepdims=keep_dims, dtype=x.dtype),
    "relu": lambda x: np.maximum(x, 0),
    "reshape": lambda x, shape: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)]),
    "rsqrt": lambda x, epsilon=1e-12: 1 / np.sqrt(x + epsilon),
    "select": lambda cond, a, b: np.where(cond, a, b),
    "shape": lambda x: np.array(x.shape, dtype=np.int32),
    "sigmoid": lambda x: torch.sigmoid(torch.from_numpy(x)).numpy(),
    "silu": lambda x: torch.nn.functional.silu(torch.from_numpy(x)).numpy(),
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "softmax": _softmax,
    "split": lambda x, axis, split_sizes=None, num_splits=None: np.split(
        x, np.cumsum(split_sizes)[:-1] if split_sizes is not None else num_splits, axis),
    "squeeze": lambda x, axes=None: x.squeeze(_axes(axes)),
    "sub": lambda x, y: x - y,
    "tile": lambda x, reps: np.tile(x, reps),
    "topk": _topk,
    "transpose": lambda x, perm: x.transpose(perm),
}


def _axes(axes):
    return None if axes is None else tuple(int(a) for a in axes)


def load_program(package: Path):
    """(specification, MIL program) of a saved package; RuntimeError with one sentence if it is damaged."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    if not (package / "Manifest.json").is_file():
        raise RuntimeError(f"{package}: not a Core ML package; name a .mlpackage written by export/to_coreml.py")
    try:
        model = ct.models.MLModel(str(package), skip_model_load=True)
        spec = model.get_spec()
        return spec, load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
    except Exception as error:  # the library raises whatever its protobuf and storage readers raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RuntimeError(f"{package}: cannot be read, it is damaged or incomplete ({first}); export it again") from None


def constants_of(function) -> dict:
    """Variable -> value of every constant, compressed ones decompressed; floats as float32."""
    values = {}
    for op in function.operations:
        if op.op_type == "const":
            value = op.outputs[0].val
        elif op.op_type.startswith("constexpr_"):
            value = op.materialized_val_inference()
        else:
            continue
        if isinstance(value, np.ndarray) and value.dtype == np.float16:
            value = value.astype(np.float32)
        elif isinstance(value, np.generic):
            value = value.item()
        values[op.outputs[0]] = value
    return values


class MilInterpreter:
    """One function of a package. run(inputs) updates the states, reset() clears them.

    states may be those of another function's interpreter: functions of one package share them.
    """

    def __init__(self, package: Path, function: str | None = None, loaded=None, states: dict | None = None) -> None:
        spec, program = loaded or load_program(package)
        name = function or program.default_function_name or "main"
        if name not in program.functions:
            raise ValueError(f"{package} has no function {name}; it has {', '.join(program.functions)}")
        function = program.functions[name]
        self.metadata = dict(spec.description.metadata.userDefined)
        self.shapes = _declared_shapes(spec, name)
        self._outputs = {var.name: var for var in function.outputs}
        self._inputs = {name: function.inputs[name] for name in self.shapes}
        self._states = {name: var for name, var in function.inputs.items() if name not in self.shapes}
        self._constants = constants_of(function)
        self._operations = [op for op in function.operations if not op.op_type.startswith("const")]
        unknown = {op.op_type for op in self._operations} - OPERATORS.keys() - {"read_state", "coreml_update_state"}
        if unknown:
            raise RuntimeError(f"{package}: the interpreter does not know {', '.join(sorted(unknown))}; "
                               "add them to export/mil_interpreter.py")
        self.states = {name: None for name in self._states} if states is None else states
        if states is None:
            self.reset()

    def reset(self) -> None:
        for name, var in self._states.items():
            self.states[name] = np.zeros([int(n) for n in var.shape], dtype=np.float32)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises ValueError for inputs that Core ML would refuse."""
        self._require_declared(inputs)
        values = dict(self._constants)
        for name, var in self._inputs.items():
            values[var] = inputs[name]
        for op in self._operations:
            if op.op_type == "read_state":
                results = self.states[op.input.name]
            elif op.op_type == "coreml_update_state":
                results = self.states[op.state.name] = values[op.value]
            else:
                arguments = {key: self._value(values, var) for key, var in op.inputs.items() if var is not None}
                results = OPERATORS[op.op_type](**arguments)
            for var, result in zip(op.outputs, results if isinstance(results, (tuple, list)) else [results]):
                values[var] = _as_declared(result, var)
        return {name: values[var] for name, var in self._outputs.items()}

    @staticmethod
    def _value(values, var):
        return [values[v] for v in var] if isinstance(var, (tuple, list)) else values[var]

    def _require_declared(self, inputs: dict[str, np.ndarray]) -> None:
        if inputs.keys() != self.shapes.keys():
            raise ValueError(f"inputs {sorted(inputs)} given, the model takes {sorted(self.shapes)}")
        possible = None
        for name, shapes in self.shapes.items():
            value = inputs[name]
            if value.dtype != np.int32:
                raise ValueError(f"{name} is {value.dtype}; give int32")
            matching = {i for i, shape in enumerate(shapes) if shape == value.shape}
            if not matching:
                raise ValueError(f"{name} has shape {list(value.shape)}; the model takes {[list(s) for s in shapes]}")
            if len(shapes) > 1:
                possible = matching if possible is None else possible & matching
        if possible is not None and not possible:
            raise ValueError("the inputs' shapes belong to different chunk lengths; give all of them the same T")


def _as_declared(value, var):
    from coremltools.converters.mil.mil import types

    value = np.asarray(value)
    if var.dtype == types.fp16:
        return half(value.astype(np.float32, copy=False))
    if var.dtype == types.fp32:
        return value.astype(np.float32, copy=False)
    return value


def _declared_shapes(spec, function: str) -> dict[str, list[tuple]]:
    """Input -> the shapes that it may have, in the order of the package."""
    description = spec.description
    inputs = description.input
    for entry in description.functions:
        if entry.name == function:
            inputs = entry.input
    shapes = {}
    for entry in inputs:
        array = entry.type.multiArrayType
        enumerated = [tuple(shape.shape) for shape in array.enumeratedShapes.shapes]
        shapes[entry.name] = enumerated or [tuple(array.shape)]
    return shapes
