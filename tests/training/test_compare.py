"""Runs side by side: the numbers are those of their files, worked out here by hand."""

import json

import pytest

from training.compare import main


def write_run(folder, losses, summary=None):
    folder.mkdir()
    rows = [{"step": i + 1, "tokens": 100 * (i + 1), "ce": ce, "al": ce / 10, "cs": ce / 100, "tls": 0.5, "cls8": 0.25}
            for i, ce in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 99')  # a torn last line
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_table_json_and_picture(tmp_path, capsys):
    done = write_run(tmp_path / "done", [9.0] * 18 + [3.0, 2.0],
                     {"heldout_perplexity": 12.5, "heldout_tls": 0.75, "heldout_cls8": 0.625, "step": 20})
    running = write_run(tmp_path / "running", [4.0])
    assert main([str(done), str(running), "--out", str(tmp_path / "new/compare.png")]) == 0
    out = capsys.readouterr().out.splitlines()
    first, second = json.loads(out[-1])["runs"]
    assert (first["ce"], first["heldout_perplexity"], first["step"], first["tokens"]) == (2.5, 12.5, 20, 2000)
    assert abs(first["al"] - 0.25) < 1e-12 and abs(first["cs"] - 0.025) < 1e-12
    assert second["ce"] == 4.0 and second["heldout_perplexity"] is None
    assert "12.5000" in out[1] and out[2].split()[:4] == [str(running), "1", "100", "-"]
    assert (tmp_path / "new/compare.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and not list(tmp_path.rglob("*.part"))


def test_a_folder_without_a_run_is_a_sentence(tmp_path, capsys):
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft/metrics.jsonl").write_text('{"step": 1, "ce1": 2}\n')
    for folder, message in ((tmp_path / "none", "no metrics.jsonl"), (tmp_path / "draft", "not of a draft head")):
        assert main([str(folder)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
