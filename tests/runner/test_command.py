"""blockffn-run, the runner's command: the same text as the library, its table and JSON, its errors."""

import json
import shutil
import subprocess

import pytest

from runtime_delegates.runner import Runner
from tests.conftest import ROOT
from tests.runner.heads import Reference

COMMAND = ROOT / "build" / "blockffn-run"


@pytest.fixture(scope="module")
def files(tiny_pte, tiny_tokenizer, tiny_checkpoint, tmp_path_factory):
    """(model.pte with its tokenizer beside it, head.pte)"""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(tiny_tokenizer, folder, dirs_exist_ok=True)
    head = Reference(tiny_checkpoint()).export(folder / "head.pte")
    return shutil.copy(tiny_pte(quant="int8"), folder / "model.pte"), head


def run(*args, stdin=""):
    done = subprocess.run([COMMAND, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_text_is_the_library_s_in_every_mode(files):
    model, head = files
    runner = Runner(model)
    runner.load_tokenizer(model.parent)
    want = runner.generate_text("The runtime reads naïve 你好", 40).text
    for mode in ("plain", "spec", "auto"):
        for draft in ([], ["--draft", head], ["--draft", model], ["--draft", head, "--drafter", "head", "--draft-width", 2]):
            code, out, err = run(model, "-p", "The runtime reads naïve 你好", "-n", 40, "--mode", mode, "--json", *draft)
            text, last = out.rstrip("\n").rsplit("\n", 1)
            assert code == 0 and text == want
            report = json.loads(last)
            assert report["generated_tokens"] == 40 and report["tokens_per_cycle"] >= 1
            for line in ("prompt", "generated", "cycles", "time", "experts", "process"):
                assert f"\n{line}" in "\n" + err
    settings = dict(temperature=1.1, top_k=30, seed=7)
    want = runner.generate_text("x", 30, **settings).text
    assert run(model, "-p", "x", "-n", 30, "--temperature", 1.1, "--top-k", 30, "--seed", 7)[1] == want + "\n"
    (model.parent / "p.txt").write_text("x")
    stop = want[5:8]
    assert run(model, "-f", model.parent / "p.txt", "-n", 30, "--temperature", 1.1, "--top-k", 30, "--seed", 7, "--stop",
               stop)[1] == want[: want.index(stop)] + "\n"


def test_bench_prints_a_table_and_json(files):
    code, out, _ = run(files[0], "--draft", files[1], "--bench", "--pp", 40, "--tg", 12, "--reps", 2, "-p", "The runtime", "--threads", 1)
    assert code == 0
    lines = out.splitlines()
    report = json.loads(lines[-1])
    assert [row["mode"] for row in report["rows"]] == ["prefill", "plain", "spec", "auto"] and report["draft_head"]
    assert all(row["tokens_per_s"] > 0 for row in report["rows"]) and len(lines) == 7
    assert report["rows"][1]["tokens_per_cycle"] == 1 and report["threads"] == 1


def test_all_experts_give_the_same_text(files):
    model, head = files
    texts, shares = {}, {}
    for which in ("active", "all"):
        code, out, _ = run(model, "-p", "The runtime reads", "-n", 30, "--draft", head, "--experts", which, "--json")
        texts[which], last = out.rstrip("\n").rsplit("\n", 1)
        shares[which] = json.loads(last)["union_share"]
        assert code == 0
    assert texts["active"] == texts["all"] and shares["active"] < 1 == shares["all"]


def test_chat_reads_lines(files, tmp_path):
    for file in ("model.pte", "tokenizer.json"):
        shutil.copy(files[0].parent / file, tmp_path)
    template = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
                "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    code, out, err = run(tmp_path / "model.pte", "--chat", "-n", 4, "--json", stdin="Hi\n\nx\n")
    assert code == 0 and err.count("\ngenerated") == 2
    reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(reports) == 2 and "(0 reused)" in err.split("generated")[0] and "(0 reused)" not in err.split("generated")[1]
    assert run(files[0], "--chat", "-p", "Hi")[0] == 1  # this model has no template


@pytest.mark.parametrize("arguments, code, message", [
    ([], 2, "no MODEL.pte"), (["{m}"], 2, "a prompt is missing"), (["{m}", "-p", "x", "extra"], 2, "too many"),
    (["{m}", "-p", "x", "--mode", "fast"], 2, "--mode fast"), (["{m}", "-p", "x", "-n", "0"], 2, "--max-tokens 0"),
    (["{m}", "-p", "x", "-n", "1.5"], 2, "not a whole number"), (["{m}", "-p", "x", "--top-p", "2"], 2, "--top-p 2"),
    (["{m}", "-p", "x", "--draft-tokens", "64"], 2, "--draft-tokens 64"), (["{m}", "-p", "x", "--temperature", "hot"], 2, "hot"), (["{m}", "-p", "x", "--experts", "most"], 2, "--experts most"),
    (["{m}", "-p", "x", "--unknown"], 2, "unknown"), (["nowhere.pte", "-p", "x"], 1, "nowhere.pte"),
    (["{m}", "-f", "nowhere.txt"], 1, "nowhere.txt"), (["{m}", "-p", "x", "--draft", "nowhere.pte"], 1, "nowhere.pte"),
    (["{m}", "-p", "x", "--tokenizer", "nowhere.json"], 1, "nowhere.json"), (["{h}", "-p", "x"], 1, "not exported by"),
    (["{m}", "--bench", "--pp", "100000"], 1, "context"), (["{m}", "-p", "x", "--drafter", "head"], 1, "no draft head"),
], ids=str)
def test_errors_are_one_sentence(files, arguments, code, message):
    got, out, err = run(*(a.format(m=files[0], h=files[1]) for a in arguments))
    last = err.strip().splitlines()[-1]
    assert got == code and out == "" and message in last


def test_help():
    code, out, _ = run("--help")
    assert code == 0 and "blockffn-run MODEL.pte" in out and "Exit status" in out
