"""Greedy speculative decoding equals plain decoding, token for token: hundreds of prompts, drafters good and bad, chains and trees."""

import json
from collections import Counter

import numpy as np
import pytest

from runtime_delegates.runner import Runner
from runtime_delegates.session import Session
from tests.conftest import ROOT
from tests.runner.heads import Reference
from tests.runner.test_runner import decoded

CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
SHAPES = [dict(draft_width=1, draft_depth=2, draft_tokens=2), dict(draft_width=1, draft_depth=12, draft_tokens=12),
          dict(draft_width=2, draft_depth=3, draft_tokens=5), dict(draft_width=3, draft_depth=4, draft_tokens=15),
          dict(draft_width=10, draft_depth=3, draft_tokens=31), dict(draft_width=8, draft_depth=9, draft_tokens=63)]
DRAFTERS = ("ngram", "head", "best", "adversary")


class Adversary:
    """Knows the right continuation, and misuses it: it stops a branch one token short, goes wrong at its end, repeats the right
    token among siblings, hangs right tokens below wrong ones, and is sure of what is wrong."""

    def __init__(self, vocab: int, seed: int) -> None:
        self.vocab, self.random, self.text, self.tokens = vocab, np.random.default_rng(seed), [], 0

    def __call__(self, context, max_tokens, max_depth):
        rest, rows, depth = self.text[len(context):], [], [0]
        on_path = [True]

        def add(token, parent, confidence):
            if len(rows) < max_tokens and depth[parent] < max_depth:
                rows.append((int(token), parent, confidence))
                depth.append(depth[parent] + 1)
                on_path.append(on_path[parent] and depth[parent] < len(rest) and rest[depth[parent]] == token)

        wish = int(self.random.integers(0, 6))
        while len(rows) < max_tokens:
            before, parent = len(rows), int(self.random.integers(0, len(rows) + 1))
            at = depth[parent]
            right = rest[at] if at < len(rest) else int(self.random.integers(0, self.vocab))
            wrong = (right + 1 + int(self.random.integers(0, self.vocab - 1))) % self.vocab
            if wish == 0 or self.random.random() < 0.3:
                add(wrong, parent, 1.0)
            else:
                add(right, parent, float(self.random.choice([0.0, 0.3, 1.0])))
                if self.random.random() < 0.3:
                    add(right, parent, 0.9)  # the same token twice among siblings
            if len(rows) == before or self.random.random() < 0.05:
                break
        return rows


def compare(plain, runner, adversary, prompts, tokens, settings_of) -> Counter:
    """Accepted tokens by drafter; settings_of(number) gives (drafter, mode, shape) to try on a prompt."""
    accepted = Counter()
    for number, prompt in enumerate(prompts):
        want = plain.generate(prompt, tokens, "plain").ids
        adversary.text = prompt + want
        for drafter, mode, shape in settings_of(number):
            runner.set_drafter(adversary if drafter == "adversary" else None)
            got = runner.generate(prompt, tokens, mode, drafter="best" if drafter == "adversary" else drafter, **shape)
            assert got.ids == want, (number, drafter, mode, shape)
            assert got.drafted_tokens <= shape["draft_tokens"] * got.cycles
            accepted[drafter] += got.accepted_tokens
    return accepted


@pytest.mark.parametrize("options", [dict(quant="int8", tie_word_embeddings=False),
                                     dict(quant="int4", tie_word_embeddings=False, attention_type="vanilla", num_key_value_heads=2, ffn_type="block")],
                         ids=["mla_int8", "gqa_int4"])
def test_every_drafter_and_shape_on_200_prompts(tiny_pte, tiny_checkpoint, tmp_path, options):
    pte, rng = tiny_pte(**options), np.random.default_rng(5)
    checkpoint = dict(options)
    quant = checkpoint.pop("quant")
    plain, runner = Runner(pte), Runner(pte)
    runner.load_draft(Reference(tiny_checkpoint(**checkpoint)).export(tmp_path / "head.pte", quant))  # random weights
    prompts = [rng.integers(3, 320, rng.integers(1, 60)).tolist() for _ in range(100)]
    prompts += [(rng.integers(3, 320, rng.integers(1, 9)).tolist() * 20)[: rng.integers(20, 90)] for _ in range(100)]
    accepted = compare(plain, runner, Adversary(320, 1), prompts, 20,
                       lambda k: [(drafter, ("spec", "auto")[(k + i) % 2 if i % 3 == 0 else 0], shape)
                                  for i, shape in enumerate(SHAPES) if i % 2 == k % 2 for drafter in DRAFTERS])
    assert accepted["adversary"] > 2500 and accepted["ngram"] > 250
    session = Session(pte, threads=1)
    for prompt in prompts[::20]:  # plain decoding itself, against one token a step in Python
        assert plain.generate(prompt, 20, "plain").ids == decoded(session, prompt, 20)


def test_the_shipped_checkpoint_on_200_prompts_of_held_out_text(tmp_path, backend):
    """Real text, where a good part of the drafts is right: every prompt with two of the drafters and shapes."""
    from export.decoder import Decoder
    from export.lower import lower
    from training.checkpoint import open_checkpoint

    lower(Decoder(open_checkpoint(CHECKPOINT), "int8", 512), str(tmp_path / "model.pte"))
    reference = Reference(CHECKPOINT, draft_vocab=1000)
    plain, runner = Runner(tmp_path / "model.pte"), Runner(tmp_path / "model.pte")
    runner.load_draft(reference.export(tmp_path / "head.pte", "int8", 512))
    runner.load_tokenizer(CHECKPOINT)
    rng, prompts = np.random.default_rng(3), []
    for line in (ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl").read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        prompts += [runner.encode(text[start : start + 160]) for start in rng.integers(0, max(1, len(text) - 160), 4)]
    order = rng.permutation(len(prompts))[:200]
    combinations = [(drafter, mode, shape) for shape in SHAPES for drafter in DRAFTERS for mode in ("spec", "auto")]
    accepted = compare(plain, runner, Adversary(runner.vocab_size, 2), [prompts[i] for i in order], 16,
                       lambda k: [combinations[(7 * k) % len(combinations)], combinations[(7 * k + 29) % len(combinations)]])
    assert len(order) == 200 and accepted["adversary"] > 200 and accepted["ngram"] + accepted["best"] > 100
