"""The command line of the runner."""

import json
import shutil

import pytest

from runtime_delegates.run import main


@pytest.fixture(scope="module")
def pte(tiny_pte, tiny_tokenizer, tmp_path_factory):
    """A program with its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(tiny_tokenizer, folder, dirs_exist_ok=True)
    return shutil.copy(tiny_pte(quant="int8"), folder / "model.pte")


def run(capsys, *args):
    code = main([str(a) for a in args])
    return code, *capsys.readouterr()


def test_modes_print_the_same_text(capsys, pte):
    texts = {}
    for mode in ("plain", "spec", "auto"):
        code, out, err = run(capsys, pte, "--prompt", "The runtime reads", "--max-tokens", 40, "--mode", mode, "--json")
        assert code == 0
        text, last = out.rstrip("\n").rsplit("\n", 1)
        report = json.loads(last)
        texts[mode] = text, report["generated_tokens"]
        assert report["text"] == text
        assert report["mode"] == mode and report["stopped_by"] in ("max tokens", "end of text")
        for line in ("prompt", "generated", "cycles", "time", "experts", "process"):
            assert f"\n{line}" in "\n" + err
    assert texts["plain"] == texts["spec"] == texts["auto"] and texts["plain"][1]


def test_stop_string_ends_the_text_before_it(capsys, pte):
    arguments = (pte, "--prompt", "The runtime reads", "--max-tokens", 40, "--json")
    full = run(capsys, *arguments)[1].rsplit("\n", 2)[0]
    stop = full[4:7]
    code, out, _ = run(capsys, *arguments, "--stop", stop, "--mode", "spec")
    text, last = out.rstrip("\n").rsplit("\n", 1)
    assert code == 0 and text == full[: full.index(stop)]
    assert json.loads(last)["stopped_by"] == "stop string"


def test_all_experts(capsys, pte):
    arguments = (pte, "--prompt", "The runtime reads", "--max-tokens", 20, "--json", "--mode", "plain", "--experts")
    active, dense = (json.loads(run(capsys, *arguments, which)[1].splitlines()[-1]) for which in ("active", "all"))
    assert active["text"] == dense["text"] and active["union_share"]["1"] < 1 == dense["union_share"]["1"]


def test_compare(capsys, pte):
    code, out, err = run(capsys, pte, "--prompt", "a a a a", "--max-tokens", 12, "--compare", "--temperature", 0.5)
    assert code == 0
    assert set(json.loads(out)["modes"]) == {"plain", "spec", "auto"} and err.count("tokens a cycle") == 3


@pytest.mark.parametrize("arguments, message", [
    (["missing.pte", "--prompt", "x"], "missing.pte"),
    (["{pte}", "--prompt-file", "missing.txt"], "missing.txt"),
    (["{pte}", "--prompt", "x " * 500], "max_context is 160"),
    (["{pte}", "--prompt", "x", "--top-p", "2"], "top_p"),
    (["{pte}", "--prompt", "x", "--tokenizer", "missing"], "missing"),
])
def test_errors_are_one_sentence_and_status_1(capsys, pte, arguments, message):
    code, out, err = run(capsys, *(a.format(pte=pte) for a in arguments))
    assert code == 1 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("arguments", [[], ["--prompt", "x", "--max-tokens", "0"], ["--prompt", "x", "--draft-tokens", "64"],
                                       ["--prompt", "x", "--mode", "fast"]])
def test_bad_arguments_are_status_2(capsys, pte, arguments):
    with pytest.raises(SystemExit) as error:
        main([str(pte), *arguments])
    assert error.value.code == 2
