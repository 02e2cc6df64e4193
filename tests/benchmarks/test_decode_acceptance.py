"""Acceptance of a draft head in the C++ runner equals what training.evaluate_draft computes, in float32."""

import json

import pytest
from safetensors.torch import save_file

from benchmarks import decode_acceptance
from tests.runner.heads import SIZES, Reference
from training import evaluate_draft
from training.draft_files import is_draft


def test_the_runner_accepts_what_the_evaluation_says(tiny_pte, tiny_checkpoint, tmp_path, capsys):
    checkpoint = tiny_checkpoint(tie_word_embeddings=False)
    reference, text = Reference(checkpoint, steps=60), tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Chapter {i}. The runtime reads only the experts that {i} tokens need." * 3 for i in range(9)))
    folder = tmp_path / "head"
    folder.mkdir()
    save_file({name: tensor.detach().contiguous() for name, tensor in reference.head.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(SIZES))
    assert is_draft(folder)
    program, head = tiny_pte(quant="fp32", tie_word_embeddings=False), reference.export(tmp_path / "head.pte")
    common = ["--text", str(text), "--prompts", "4", "--prompt-tokens", "24", "--new-tokens", "40", "--depths", "2", "4", "--widths", "1", "3"]
    assert evaluate_draft.main([str(folder), "--target", str(checkpoint), "--device", "cpu", "--out", str(tmp_path / "out"), *common]) == 0
    want = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert decode_acceptance.main([str(program), "--draft", str(head), "--tokenizer", str(checkpoint), *common]) == 0
    out = capsys.readouterr().out
    got = json.loads(out.splitlines()[-1])["rows"]
    assert "chain" in out and len(got) == 4
    for row, other in zip(got, want):
        assert (row["width"], row["depth"]) == (other["width"], other["depth"])
        # The evaluation lets the last cycle of a text draft beyond its end; a tie between logits may fall the other way.
        assert row["tokens_per_cycle"] == pytest.approx(other["tokens_per_cycle"], rel=0.06)
    assert max(row["tokens_per_cycle"] for row in got) > 1.05


@pytest.mark.parametrize("bad", [[], ["m.pte"], ["m.pte", "--draft", "h.pte", "--nodes", "64"], ["m.pte", "--draft", "h.pte", "--depths", "0"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as stop:
        decode_acceptance.arguments(bad)
    assert stop.value.code == 2


def test_a_missing_program_is_one_sentence(tmp_path, capsys):
    assert decode_acceptance.main([str(tmp_path / "no.pte"), "--draft", str(tmp_path / "no.pte"), "--prompts", "1"]) == 1
    assert "no.pte" in capsys.readouterr().err.splitlines()[-1]
