"""What the READMEs claim is what the raw data say: tables regenerate from it, numbers in sentences are computed from it again.

The sentences' numbers are computed here from medians and rates of results.json, not by the code that made the tables. A pattern that
is no longer found fails as well: change it together with the sentence.
"""

import json
import lzma
import re
from pathlib import Path

import pytest

from benchmarks import decode_report, device_decode_run, onnx_decode, report

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
N = r"([\d,]*\d(?:\.\d+)?)"  # a number, thousands with commas


def load(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


# ---- tables from raw data ----

@pytest.mark.parametrize("name", ["ffn", "ffn-2.8b"])
def test_ffn_results_and_table_are_those_of_the_samples(name):
    with lzma.open(RESULTS / name / "raw.jsonl.xz", "rt") as file:
        events = [json.loads(line) for line in file]
    found, published = report.rows(events), load(f"{name}/results.json")
    assert json.loads(json.dumps(found)) == published["rows"]
    context = published["setting"]
    title = f"# Sparse FFN, {published['kernels']} kernels, {context['cpu']}, {context['cores']} cores"
    assert (RESULTS / name / "table.md").read_text() == \
        f"{title}\n\n{report.table(found)}\n\n# Every peer\n\n{report.table(found, details=True)}\n"


@pytest.mark.parametrize("name", ["decode", "decode-replayed", "decode-2.8b"])
def test_decoding_tables_are_those_of_their_results(name):
    published = load(f"{name}/results.json")
    for row in published["rows"]:  # JSON made the chunk lengths strings
        row["union_share"] = {int(t): share for t, share in row["union_share"].items()}
        row["chunk_ms"] = {kind: {int(t): ms for t, ms in times.items()} for kind, times in row["chunk_ms"].items()}
    text = decode_report.table(published["rows"], published["auto_over_plain_where_drafts_fail"])
    assert (RESULTS / name / "table.md").read_text() == text


def test_the_table_of_onnx_runtime_is_that_of_its_results():
    published = load("onnx-decode/results.json")
    assert onnx_decode.ratios(published["rows"]) == published["ratios"]
    assert (RESULTS / "onnx-decode/table.md").read_text() == onnx_decode.table(published["rows"], published["ratios"])


def xeon(threads: str) -> dict:
    return device_decode_run.summary(load(f"decode-xeon/{threads}-threads.json" if threads == "four" else "decode-xeon/one-thread.json")["samples"])


def test_the_xeons_table_is_that_of_its_samples():
    text = (RESULTS / "decode-xeon/table.md").read_text()
    for rates in (xeon("one"), xeon("four")):
        for (quant, mode), (rate, a_cycle) in rates.items():
            assert (f"| {quant} | {mode} | {rate:.0f} | {a_cycle:.2f} | {rate / rates[quant, 'all'][0]:.2f}x "
                    f"| {rate / rates[quant, 'sparse'][0]:.2f}x |\n") in text


# ---- numbers in sentences ----

def ffn(size: str, quant: str, tokens: int) -> tuple[float, float]:
    """(time of the fastest dense peer / ours, QMoE's / ours) on one thread."""
    times = {row["peer"]: (row["kind"], row["time_ns"]) for row in load("ffn-2.8b/results.json" if size == "2.8B" else "ffn/results.json")["rows"]
             if (row["size"], row["threads"], row["tokens"]) == (size, 1, tokens) and row["precision"] == quant}
    ours = times[f"blockffn-{quant}"][1]
    return (min(time for kind, time in times.values() if kind == "dense") / ours,
            next(time for peer, (_, time) in times.items() if peer.startswith("ort-qmoe")) / ours)


def decoding(name: str, model: str, quant: str) -> dict:
    (row,) = [row for row in load(f"{name}/results.json")["rows"] if (row["model"], row["precision"], row["kind"]) == (model, quant, "all")]
    return {"plain": row["sparse_plain"] / row["dense_plain"], "spec": row["sparse_spec"] / row["dense_plain"],
            "gain": row["sparse_spec"] / row["sparse_plain"], "rate": row["sparse_spec"]}


def in_ort(what: str, other: str, ours: str) -> float:
    rows = {row["flavour"]: row for row in load("onnx-decode/results.json")["rows"]}
    value = {"time": lambda r: r["wall_ms"]["p50"], "load": lambda r: r["load"]["ms"], "memory": lambda r: r["load"]["anonymous_bytes"]}[what]
    return value(rows[other]) / value(rows[ours])


def claims():
    """(file, pattern, [values of its numbers])."""
    zen = {q: decoding("decode", "shipped", q) for q in ("int8", "int4")}
    yield "README.md", f"int8: sparse plain {N}x, with speculation {N}x; int4: {N}x and {N}x \\({N} and {N} tokens/s\\)", [
        zen["int8"]["plain"], zen["int8"]["spec"], zen["int4"]["plain"], zen["int4"]["spec"], zen["int8"]["rate"], zen["int4"]["rate"]]
    yield "README.md", f"Speculation alone brings {N}x \\(int8\\) and {N}x \\(int4\\)", [zen["int8"]["gain"], zen["int4"]["gain"]]
    one, four = xeon("one"), xeon("four")
    over = lambda rates, quant, top, bottom: rates[quant, top][0] / rates[quant, bottom][0]  # noqa: E731
    yield "README.md", f"with speculation, int8: {N}x and {N}x; int4: {N}x and {N}x \\({N} and {N} tokens/s\\)", [
        *(over(one, q, "ngrams", base) for q in ("int8", "int4") for base in ("all", "sparse")), *(one[q, "ngrams"][0] for q in ("int8", "int4"))]
    for quant in ("int8", "int4"):
        yield "benchmarks/README.md", f"\\| {quant} \\| {N} \\| {N} \\| {N} \\| {N}x \\| {N}x \\|", [
            *(one[quant, mode][0] for mode in ("all", "sparse", "ngrams")), over(one, quant, "ngrams", "all"), over(one, quant, "ngrams", "sparse")]
    yield "benchmarks/README.md", f"it is {N}x and {N}x of sparse on one thread, and with four threads \\(two rounds\\) {N}x and {N}x, where\\s+" \
        f"n-grams alone give {N}x and {N}x", [over(rates, q, mode, "sparse") for rates, mode in ((one, "best"), (four, "best"), (four, "ngrams"))
                                            for q in ("int8", "int4")]
    models = (("decode-replayed", "0.1B"), ("decode-replayed", "1.2B"), ("decode-2.8b", "2.8B"))
    yield "README.md", f"with speculation, int8: {N}x, {N}x, {N}x; int4: {N}x, {N}x, {N}x", [
        decoding(*model, q)["spec"] for q in ("int8", "int4") for model in models]
    for quant in ("int4", "int8"):
        yield "README.md", f"\\| {quant} \\| {N}x \\| {N}x \\| {N}x \\|", [ffn("1.2B", quant, tokens)[0] for tokens in (1, 8, 32)]
    both = [sorted(ffn("1.2B", quant, tokens)[1] for quant in ("int8", "int4")) for tokens in (1, 8, 32)]
    yield "README.md", f"the sparse peer \\| {N}x \\| {N}x to {N}x \\| {N}x to {N}x \\|", [both[0][0], *both[1], *both[2]]
    yield "README.md", f"int4 {N}x, {N}x and {N}x, int8\\s+{N}x, {N}x and {N}x \\(\\[table\\]\\(benchmarks/results/ffn-2.8b", [
        ffn("2.8B", quant, tokens)[0] for quant in ("int4", "int8") for tokens in (1, 8, 32)]
    yield "README.md", f"our operator takes {N}x \\(int8\\) and\\s+{N}x \\(int4\\) less time than QMoE, {N}x less than a dense twin in 8 bits and {N}x less", [
        in_ort("time", f"{kind}-{q}", f"blockffn-{q}") for kind in ("qmoe", "dense") for q in ("int8", "int4")]
    timed = {(row["weights"], row["kernels"], row["tokens"]): (row["median_us"], row["gbs"])
             for row in json.loads((RESULTS / "kernels-vnni/raw.txt").read_text().splitlines()[-1])["rows"]}
    for quant in ("int8", "int4"):
        for kernels in ("avx512_vnni", "avx_vnni", "avx2"):
            yield "benchmarks/README.md", f"\\| {quant} \\| {kernels} \\| {N} us, {N} \\| {N} us, {N} \\| {N} us, {N} \\|", [
                value for tokens in (1, 8, 32) for value in timed[quant, kernels, tokens]]
    loads, memory = (sorted(in_ort(what, f"{kind}-{q}", f"blockffn-{q}") for kind in ("qmoe", "dense") for q in ("int8", "int4"))
                     for what in ("load", "memory"))
    yield "README.md", f"logits, {N}x to {N}x less than theirs", [loads[0], loads[-1]]
    yield "README.md", f"memory, {N}x to {N}x less", [memory[0], memory[-1]]


def difference(text: str, value: float) -> str:
    """"" where `text` is `value` rounded to the digits that it shows."""
    digits = len(text.partition(".")[2])
    return "" if abs(float(text.replace(",", "")) - value) <= 0.5 * 10**-digits * (1 + 1e-9) else f"{text}, but the results say {value:.{digits + 1}f}"


def test_every_number_equals_its_results_file():
    wrong = []
    for file, pattern, values in claims():
        found = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"))
        if len(found) != 1:
            wrong.append(f"{file}: found {len(found)} times: {pattern}")
            continue
        numbers = found[0] if isinstance(found[0], tuple) else (found[0],)
        wrong += [f"{file}: {text}" for number, value in zip(numbers, values, strict=True) if (text := difference(number, value))]
    assert not wrong, "\n".join(wrong)


def test_the_check_sees_a_wrong_number():
    assert difference("4.3", 4.26) == "" and difference("2,405", 2404.6) == "" and difference("12", 11.96) == ""
    assert difference("4.3", 4.24) and difference("2,405", 2406.0) and difference("6.9", float("nan"))
