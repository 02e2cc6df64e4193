"""The interpreter against coremltools' own value inference, and what it refuses."""

import shutil

import numpy as np
import pytest

from export import mil_interpreter
from export.mil_interpreter import MilInterpreter

# Operators of which coremltools infers no value.
NOT_INFERRED = {"read_state", "coreml_update_state", "silu", "topk"}


def inputs_of(tokens, n_past=0, length=None):
    length = length or tokens
    return dict(token_ids=np.arange(length, dtype=np.int32)[None], positions=np.arange(n_past, n_past + length, dtype=np.int32),
                n_past=np.array([n_past], np.int32), tree_mask=np.tril(np.ones((length, 64), np.int32)),
                kv_src=np.full(64, -1, np.int32))


def inferred(op, arguments):
    """What coremltools computes for `op` with these values, None where it does not."""

    from coremltools.converters.mil.mil import types

    def give(var, value):
        value = np.asarray(value)
        var._sym_type = types.tensor(var.dtype, value.shape)
        var._sym_val = var._sym_type()
        var._sym_val._val = value

    before = {}
    for key, value in arguments.items():
        variables = op.inputs[key] if isinstance(op.inputs[key], (list, tuple)) else [op.inputs[key]]
        for var, one in zip(variables, value if isinstance(op.inputs[key], (list, tuple)) else [value]):
            if isinstance(var.val, np.bool_):  # which numpy 2.4 no longer takes for keepdims
                before[var] = var._sym_type, var._sym_val
                var._sym_val = types.bool(bool(var.val))
            elif var.op is None or var.op.op_type != "const":
                before[var] = var._sym_type, var._sym_val
                give(var, one)
    try:
        return op.value_inference()
    finally:
        for var, (kind, value) in before.items():
            var._sym_type, var._sym_val = kind, value


def test_every_operator_is_what_coremltools_says(exported):
    """All operators of two chunks in turn; each is given the interpreter's own values."""
    package = exported("int8").package
    compared, skipped = set(), set()

    interpreter = MilInterpreter(package)
    for tokens, n_past in ((4, 0), (2, 4)):
        values = dict(interpreter._constants)
        for name, var in interpreter._inputs.items():
            values[var] = inputs_of(tokens, n_past)[name]
        for op in interpreter._operations:
            if op.op_type == "read_state":
                results = [interpreter.states[op.input.name]]
            elif op.op_type == "coreml_update_state":
                results = [values[op.value]]
                interpreter.states[op.state.name] = results[0]
            else:
                arguments = {key: interpreter._value(values, var) for key, var in op.inputs.items() if var is not None}
                results = mil_interpreter.OPERATORS[op.op_type](**arguments)
                results = list(results) if isinstance(results, (list, tuple)) else [results]
                want = None if op.op_type in NOT_INFERRED else inferred(op, arguments)
                if want is None:
                    skipped.add(op.op_type)
                else:
                    want = want if isinstance(want, (list, tuple)) else [want]
                    for a, b in zip(results, want, strict=True):
                        b = np.asarray(getattr(b, "val", b))
                        assert np.shape(a) == b.shape, op.op_type
                        np.testing.assert_allclose(np.asarray(a, float), b.astype(float), rtol=2e-3, atol=2e-3,
                                                   err_msg=f"{op.op_type} {op.name}")
                    compared.add(op.op_type)
            for var, result in zip(op.outputs, results):
                values[var] = mil_interpreter._as_declared(result, var)
    assert skipped <= NOT_INFERRED, f"not compared: {skipped - NOT_INFERRED}"
    assert {"linear", "matmul", "gather", "slice_update", "slice_by_index", "softmax", "concat", "cast", "reduce_max",
            "rsqrt", "split", "transpose"} <= compared


@pytest.mark.parametrize("change, message", [
    (lambda i: i | {"token_ids": i["token_ids"].astype(np.int64)}, "int64; give int32"),
    (lambda i: i | {"token_ids": np.zeros((1, 3), np.int32)}, "token_ids has shape .1, 3."),
    (lambda i: i | {"token_ids": np.zeros((1, 2), np.int32)}, "different chunk lengths"),
    (lambda i: {k: v for k, v in i.items() if k != "kv_src"}, "the model takes"),
    (lambda i: i | {"token_ids": i["token_ids"] + 320}, "beyond the 320 entries"),
    (lambda i: i | {"positions": i["positions"] + 128}, "beyond the 128 entries"),
    (lambda i: i | {"n_past": np.array([189], np.int32)}, "n_past is too large|beyond the 192 entries"),
])
def test_inputs_that_core_ml_would_refuse(exported, change, message):
    interpreter = MilInterpreter(exported().package)
    with pytest.raises(ValueError, match=message):
        interpreter.run(change(inputs_of(4)))


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported().package, tmp_path / "model.mlpackage")


def test_a_damaged_package_is_one_sentence(copied, tmp_path):
    weights, program = next(copied.rglob("weight.bin")), next(copied.rglob("model.mlmodel"))
    whole = program.read_bytes()
    for damage in (whole[: len(whole) // 2], b"not a model", whole.replace(b"constexpr_blockwise", b"constexpr_blockwide")):
        program.write_bytes(damage)
        with pytest.raises(RuntimeError, match="damaged or incomplete.*export it again"):
            MilInterpreter(copied)
    program.write_bytes(whole)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match="damaged or incomplete.*export it again"):
        MilInterpreter(copied)
    weights.unlink()
    with pytest.raises(RuntimeError, match="damaged or incomplete.*export it again"):
        MilInterpreter(copied)
    (copied / "Manifest.json").unlink()
    with pytest.raises(RuntimeError, match="not a Core ML package"):
        MilInterpreter(copied)


def test_an_unknown_operator_and_function_are_errors(copied, monkeypatch):
    monkeypatch.delitem(mil_interpreter.OPERATORS, "softmax")
    with pytest.raises(RuntimeError, match="does not know softmax"):
        MilInterpreter(copied)
    with pytest.raises(ValueError, match="no function prefill; it has main"):
        MilInterpreter(copied, "prefill")
