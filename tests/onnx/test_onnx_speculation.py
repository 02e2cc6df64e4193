"""Speculative decoding over ONNX Runtime: the runner's drafters, trees and sampling over a .onnx."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch

from export import quality
from export.decoder import Decoder
from export.onnx_graph import write_onnx
from runtime_delegates.onnx_model import OnnxModel
from runtime_delegates.onnx_session import OnnxSession
from runtime_delegates.run import main
from runtime_delegates.runner import Runner
from runtime_delegates.session import Session
from runtime_delegates.stats import Stats
from tests.runner.heads import Reference
from tests.runner.test_runner import MODELS, PROMPTS, VOCAB, decoded, random_tree
from training.checkpoint import open_checkpoint

SHAPES = [dict(draft_width=1, draft_depth=6), dict(draft_width=6, draft_depth=4, draft_tokens=63)]


@pytest.fixture(scope="module")
def trained():
    """trained(checkpoint) -> a head that has learned a little, made once."""
    return functools.cache(lambda checkpoint: Reference(checkpoint, steps=60))


@pytest.fixture(scope="module", params=MODELS)
def both(request, tiny_pte, tiny_checkpoint, trained, tmp_path_factory):
    """(.onnx, .pte, head's .pte, eager decoder) of one checkpoint."""
    options = dict(MODELS[request.param])
    quant = options.pop("quant")
    checkpoint, folder = tiny_checkpoint(**options), tmp_path_factory.mktemp("model")
    write_onnx(Decoder(open_checkpoint(checkpoint), quant, 160), folder / "model.onnx")
    head = trained(checkpoint).export(folder / "draft.pte", quant)
    return folder / "model.onnx", tiny_pte(quant=quant, **options), head, Decoder(open_checkpoint(checkpoint), quant, 160)


@pytest.fixture(scope="module")
def int8(tiny_pte, tiny_checkpoint, tiny_tokenizer, tmp_path_factory):
    """(.onnx, .pte) with a tokenizer beside each."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(tiny_tokenizer, folder, dirs_exist_ok=True)
    write_onnx(Decoder(open_checkpoint(tiny_checkpoint()), "int8", 160), folder / "model.onnx")
    return folder / "model.onnx", shutil.copy(tiny_pte(quant="int8"), folder / "model.pte")


def with_head(model, head):
    runner = Runner(model)
    runner.load_draft(head)
    return runner


@torch.no_grad()
def eager_follows(decoder, quant, prompt, ids):
    """Every token is the eager decoder's own choice, up to the parity bound of a tie."""
    text = torch.tensor([*prompt, *ids])
    decoder.reset()
    rows = []
    for start in range(0, len(text), 64):
        chunk = text[start : start + 64]
        tokens = len(chunk)
        masks = torch.tensor([(2 << i) - 1 if i < 63 else -1 for i in range(tokens)])
        rows.append(decoder(chunk[None], torch.arange(start, start + tokens), torch.tensor([start]), masks,
                            torch.full((64,), -1), torch.tensor([0]))[0][0])
    logits = torch.cat(rows)[len(prompt) - 1 : -1]
    chosen = logits[torch.arange(len(ids)), torch.tensor(ids)]
    slack = 2 * quality.bounds_of(quant, 2)[0] * logits.abs().amax(-1)
    assert bool((chosen >= logits.amax(-1) - slack).all())
    return float((chosen == logits.amax(-1)).float().mean())


def test_greedy_is_plain_decoding_the_pte_s_and_eager_s(both):
    onnx, pte, head, eager = both
    session, ours, theirs = OnnxSession(onnx, threads=1), with_head(OnnxModel(onnx, threads=1), head), with_head(pte, head)
    accepted, same = {"ngram": 0, "head": 0}, []
    for prompt in PROMPTS[2:3] + PROMPTS[5:]:
        want = decoded(session, prompt, 40)
        assert theirs.generate(prompt, 40, "spec").ids == want
        if want:
            same.append(eager_follows(eager, eager.quant, prompt, want))
        for shape in SHAPES:
            for mode, drafter in (("plain", "best"), ("spec", "ngram"), ("spec", "head"), ("spec", "best"), ("auto", "best")):
                got = ours.generate(prompt, 40, mode, drafter=drafter, **shape)
                assert got.ids == want, (mode, drafter, shape)
                if mode == "spec" and drafter != "best":
                    accepted[drafter] += got.accepted_tokens
        ours.set_drafter(random_tree(len(prompt)))
        assert ours.generate(prompt, 40, "spec").ids == want
        ours.set_drafter(None)
    assert min(accepted.values()) > 20 and np.mean(same) > 0.95


def test_the_same_drafts_and_the_same_sampled_text_as_over_the_pte(both):
    onnx, pte, head, _ = both
    ours, theirs = with_head(OnnxModel(onnx, threads=1), head), with_head(pte, head)
    for drafter in ("ngram", "head", "best"):
        for settings in (dict(), dict(temperature=0.8, top_p=0.9, repetition_penalty=1.1, seed=7)):
            for prompt in (PROMPTS[2], PROMPTS[6]):
                a, b = (runner.generate(prompt, 30, "spec", drafter=drafter, **settings) for runner in (ours, theirs))
                assert (a.ids, a.cycles, a.drafted_tokens, a.accepted_tokens) == (b.ids, b.cycles, b.drafted_tokens, b.accepted_tokens)
    assert (ours.max_context, ours.vocab_size, ours.hidden_size, ours.bos_id, ours.eos_ids) == (
        theirs.max_context, theirs.vocab_size, theirs.hidden_size, theirs.bos_id, theirs.eos_ids)


def test_turns_reuse_their_common_beginning(int8):
    runner, session = Runner(OnnxModel(int8[0], threads=1)), OnnxSession(int8[0], threads=1)
    first = runner.generate(PROMPTS[2], 20, "spec").ids
    turn = [*PROMPTS[2], *first, 5, 6]
    result = runner.generate(turn, 20, "spec")
    assert result.ids == decoded(session, turn, 20) and result.reused_tokens >= len(PROMPTS[2]) + len(first) - 1


class Broken:
    """A model whose second chunk goes wrong."""

    def __init__(self, path, how):
        self.model, self.how, self.chunks = OnnxModel(path, threads=1), how, 0
        for name in ("path", "max_context", "vocab_size", "hidden_size", "fingerprint", "tokenizer_fingerprint", "bos_id", "eos_ids"):
            setattr(self, name, getattr(self.model, name))

    def run_chunk(self, *inputs):
        self.chunks += 1
        logits, hidden = self.model.run_chunk(*inputs)
        return self.how(logits, hidden) if self.chunks == 2 else (logits, hidden)


def raises(logits, hidden):
    raise KeyError("the cable is out")


@pytest.mark.parametrize("how, error, sentence", [
    (raises, KeyError, "the cable is out"),
    (lambda logits, hidden: (logits[:, :, 1:], hidden), RuntimeError, "outputs of shape"),
    (lambda logits, hidden: (logits, hidden[0]), RuntimeError, "outputs of shape"),
    (lambda logits, hidden: (logits,), ValueError, "zip"),
])
def test_a_step_that_fails_ends_the_run_and_the_runner_goes_on(int8, how, error, sentence):
    model = Broken(int8[0], how)
    runner = Runner(model)
    with pytest.raises(error, match=sentence):
        runner.generate(PROMPTS[6], 20, "spec")
    assert runner.generate(PROMPTS[6], 20, "spec").ids == decoded(OnnxSession(int8[0], threads=1), PROMPTS[6], 20)


@pytest.mark.parametrize("changes, sentence", [
    (dict(max_context=0), "max_context"), (dict(vocab_size=0), "vocab_size"), (dict(vocab_size=2**30), "vocab_size"),
    (dict(bos_id=VOCAB), "bos_id"), (dict(hidden_size=-1), "hidden_size"),
])
def test_a_model_that_cannot_be(int8, changes, sentence):
    model = OnnxModel(int8[0], threads=1)
    for name, value in changes.items():
        setattr(model, name, value)
    with pytest.raises(RuntimeError, match=sentence):
        Runner(model)


def test_a_head_of_another_checkpoint_is_refused(int8, tiny_checkpoint, tmp_path):
    runner = Runner(OnnxModel(int8[0], threads=1))
    other = Reference(tiny_checkpoint(seed=1)).export(tmp_path / "other.pte")
    with pytest.raises(RuntimeError, match="fingerprints differ"):
        runner.load_draft(other)
    unknown = OnnxModel(int8[0], threads=1)
    unknown.fingerprint = 0
    with pytest.raises(RuntimeError, match="export the model again"):
        Runner(unknown).load_draft(other)


def test_a_language_model_drafts(int8, tiny_pte):
    """The model itself in another precision, as a .pte; one with another tokenizer is refused."""
    session, runner = OnnxSession(int8[0], threads=1), with_head(OnnxModel(int8[0], threads=1), tiny_pte(quant="int4"))
    accepted = 0
    for prompt in PROMPTS[5:]:
        result = runner.generate(prompt, 40, "spec", drafter="head", draft_width=2, draft_depth=4)
        assert result.ids == decoded(session, prompt, 40)
        accepted += result.accepted_tokens
    assert accepted > 20
    other = OnnxModel(int8[0], threads=1)
    other.tokenizer_fingerprint ^= 1
    with pytest.raises(RuntimeError, match="another tokenizer"):
        Runner(other).load_draft(tiny_pte(quant="int4"))


def run(capsys, *args):
    code = main([str(a) for a in args])
    return code, *capsys.readouterr()


def test_the_command_prints_the_pte_s_text(capsys, int8, tiny_checkpoint, trained, tmp_path):
    head = trained(tiny_checkpoint()).export(tmp_path / "draft.pte", "int8")
    texts, shares = set(), []
    for model in int8:
        for options in (("--mode", "plain"), ("--mode", "spec"), ("--mode", "spec", "--draft", head), ("--threads", 1)):
            code, out, err = run(capsys, model, "--prompt", "The runtime reads", "--max-tokens", 40, "--json", *options)
            assert code == 0
            text, last = out.rstrip("\n").rsplit("\n", 1)
            result = json.loads(last)
            assert result["text"] == text
            assert ("ONNX Runtime" in err) == (model == int8[0])
            texts.add(text)
            if "--mode" in options:  # auto chooses its chunks by time
                assert result["union_share"].keys() == result["chunks"].keys()
                assert all(0 < share <= 1 for share in [*result["union_share"].values(), result["prefill_union_share"]])
                shares.append((result["chunks"], result["union_share"], result["prefill_union_share"]))
    assert len(texts) == 1 and shares[:3] == shares[3:]
    assert len(shares[1][1]) > 1, "shares of chunks of several sizes"


def test_experts_read_are_those_of_the_pte(int8):
    ours, plain, theirs = OnnxSession(int8[0], threads=1), OnnxSession(int8[0], plain=True), Session(int8[1])
    theirs.backend.take_stats()
    total = Stats()
    for tokens in (1, 2, 5, 64):
        for session in (ours, theirs, plain):
            session.step([3 + i for i in range(tokens)])
        want = theirs.backend.take_stats()
        assert want.tokens == tokens and 0 < want.experts_read <= want.experts_total
        assert ours.model.last_call == want and plain.model.last_call == Stats()
        total += want
    assert ours.model.take_stats() == total and ours.model.take_stats() == plain.model.take_stats() == Stats()
    with pytest.raises(RuntimeError):
        ours.model.run_chunk(np.full((1, 1), 10**6), *(np.zeros(n, np.int64) for n in (1, 1, 1, 64, 1)))
    assert ours.model.last_call == Stats()


def test_all_experts_give_the_same_bits_and_are_all_read(int8, trained, tiny_checkpoint, tmp_path):
    active, dense = (OnnxSession(int8[0], threads=1, experts=which) for which in ("active", "all"))
    for tokens in (1, 7, 64):
        chunk = [3 + i for i in range(tokens)]
        assert all(torch.equal(a, b) for a, b in zip(active.step(chunk), dense.step(chunk), strict=True))
        assert dense.model.last_call.read_share == 1
        assert tokens > 1 or active.model.last_call.read_share < 1
    runner = with_head(OnnxModel(int8[0], threads=1), trained(tiny_checkpoint()).export(tmp_path / "draft.pte", "int8"))
    for mode in ("plain", "spec"):
        of = {which: runner.generate(PROMPTS[2], 24, mode, experts=which) for which in ("active", "all", "active")}
        assert of["all"].ids == of["active"].ids
        assert set(of["all"].union_share.values()) == {1} and (mode == "spec" or of["active"].union_share[1] < 1)
    with pytest.raises(ValueError, match="switch of our operator library"):
        OnnxSession(int8[0], plain=True, experts="all").step([3])
    with pytest.raises(ValueError, match="experts 'most'"):
        OnnxSession(int8[0], experts="most").step([3])


def test_a_library_of_another_kind_is_a_sentence(int8, tmp_path):
    (tmp_path / "lib.so").write_bytes(b"no library")
    with pytest.raises(RuntimeError, match="lib.so is not a usable operator library .*make build"):
        OnnxModel(int8[0], lib=tmp_path / "lib.so")


@pytest.mark.parametrize("arguments, message", [
    (["none.onnx", "--prompt", "x"], "none.onnx: no such file"),
    (["{onnx}", "--prompt", "x", "--draft", "none.pte"], "none.pte"),
    (["{onnx}", "--prompt", "x", "--draft", "{onnx}"], "not an exported|ExecuTorch"),
    (["{onnx}", "--prompt", "x " * 500], "max_context is 160"),
])
def test_errors_are_one_sentence_and_status_1(capsys, int8, arguments, message):
    code, out, err = run(capsys, *(a.format(onnx=int8[0], pte=int8[1]) for a in arguments))
    assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert any(part in err for part in message.split("|")), err
