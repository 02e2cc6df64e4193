"""Session: chunks, trees and compaction against plain one-token-at-a-time decoding of the same tokens."""

import numpy as np
import pytest
import torch

from runtime_delegates.session import ContextFull, Session

MODELS = {
    "mla_fp32": dict(quant="fp32"),
    "mla_int8": dict(quant="int8"),
    "gqa_int4": dict(quant="int4", attention_type="vanilla", num_key_value_heads=2, ffn_type="block"),
}
ids_of = np.random.default_rng(7).integers(0, 320, 400).tolist()


@pytest.fixture(scope="module", params=MODELS)
def session(request, tiny_pte):
    return Session(tiny_pte(**MODELS[request.param]), threads=1)


@pytest.fixture(autouse=True)
def _fresh(request):
    if "session" in request.fixturenames:
        request.getfixturevalue("session").reset()


def one_by_one(session, ids):
    """Logits [T, V] and hidden [T, D] of the tokens decoded singly from an empty context."""
    session.reset()
    rows = [session.step([i]) for i in ids]
    return torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows])


def assert_close(got, want):
    # The kernels keep the order of every sum whatever the chunk (see CMakeLists.txt), so a few units in
    # the last place are generous; one wrong cache row or position changes the third digit.
    assert got.shape == want.shape and got.dtype == torch.float32
    bound = 1e-5 * (1 + want.abs().double())
    wrong = ~((got.double() - want.double()).abs() <= bound)
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} elements differ, at first {wrong.nonzero()[0].tolist()}"


def test_the_comparison_sees_faults():
    want = torch.ones(4, 5)
    for fault in (float("nan"), 0.0, 1.001):
        got = want.clone()
        got[2, 3] = fault
        with pytest.raises(AssertionError):
            assert_close(got, want)


def test_metadata(session):
    assert (session.max_chunk, session.max_context, session.vocab_size) == (64, 160, 320)
    assert (session.bos_id, session.eos_ids) == (1, [2])


@pytest.mark.parametrize("split", [[64, 36], [1, 63, 2, 34], [7, 8, 64, 21]], ids=str)
def test_chunks_equal_one_by_one(session, split):
    ids = ids_of[: sum(split)]
    want_logits, want_hidden = one_by_one(session, ids)
    session.reset()
    logits, hidden, at = [], [], 0
    for n in split:
        assert session.n_past == at
        got = session.step(ids[at : at + n])
        logits.append(got[0])
        hidden.append(got[1])
        at += n
    assert_close(torch.cat(logits), want_logits)
    assert_close(torch.cat(hidden), want_hidden)
    # The rows differ among themselves, so the comparison above is not one of constants.
    assert (want_logits[0] - want_logits[-1]).abs().max() > 1e-2


@pytest.mark.parametrize("length", [1, 64, 65, 130])
def test_prefill_equals_one_by_one(session, length):
    want = one_by_one(session, ids_of[:length])[0][-1]
    session.reset()
    chunks = []
    assert_close(session.prefill(ids_of[:length], chunks.append), want)
    assert sum(chunks) == session.n_past == length and max(chunks) <= 64
    # The context goes on as if it had been decoded.
    assert_close(session.step([5])[0], one_by_one(session, [*ids_of[:length], 5])[0][-1:])


def test_prefill_computes_one_row_of_logits_a_chunk(session, monkeypatch):
    steps = []
    monkeypatch.setattr(session, "step", lambda ids, logits_start: steps.append((len(ids), logits_start)) or (torch.zeros(1, 1), None))
    session.prefill(ids_of[:130])
    assert steps == [(64, 63), (64, 63), (2, 1)]


def test_logits_start_skips_only_earlier_rows(session):
    want = session.step(ids_of[:10])[0]
    session.reset()
    got = session.step(ids_of[:10], logits_start=7)[0]
    assert (got[:7] == 0).all()
    assert torch.equal(got[7:], want[7:])


# A tree of 8 nodes: parent of each, -1 for the end of the context.
PARENTS = [-1, 0, 0, 1, 1, 2, 5, -1]


def path_to(node):
    path = []
    while node >= 0:
        path.insert(0, node)
        node = PARENTS[node]
    return path


def tree_masks():
    return [sum(1 << j for j in path_to(i)) for i in range(len(PARENTS))]


def test_tree_equals_its_linear_paths(session):
    prompt, nodes = ids_of[:70], ids_of[100:108]
    session.prefill(prompt)
    logits, hidden = session.step(nodes, tree_mask=tree_masks())
    for node in range(len(PARENTS)):
        path = path_to(node)
        want_logits, want_hidden = one_by_one(session, prompt + [nodes[i] for i in path])
        assert_close(logits[node], want_logits[-1])
        assert_close(hidden[node], want_hidden[-1])


@pytest.mark.parametrize("leaf", [3, 6, 7])
def test_kept_branch_equals_linear_decoding(session, leaf):
    prompt, nodes, after = ids_of[:66], ids_of[100:108], ids_of[200:205]
    branch = [nodes[i] for i in path_to(leaf)]
    want = one_by_one(session, prompt + branch + after)[0][-len(after):]
    session.reset()
    session.prefill(prompt)
    session.step(nodes, tree_mask=tree_masks())
    got = [session.step(after[:3], kv_src=path_to(leaf))[0]]
    assert session.n_past == len(prompt) + len(branch) + 3
    got += [session.step([i])[0] for i in after[3:]]
    assert_close(torch.cat(got), want)


def test_dropping_the_whole_chunk(session):
    want = one_by_one(session, ids_of[:12])[0][-1:]
    session.reset()
    session.prefill(ids_of[:11])
    session.step(ids_of[50:60])
    assert_close(session.step(ids_of[11:12], kv_src=[])[0], want)
    assert session.n_past == 12


def test_full_chunk_masks_and_given_positions(session):
    ids = ids_of[:64]
    want = session.step(ids)[0]
    session.reset()
    # Bit 63 is the sign bit of an int64: both spellings of the last mask mean the same.
    masks = [(1 << (i + 1)) - 1 for i in range(63)] + [-1]
    assert torch.equal(session.step(ids, positions=range(64), tree_mask=masks)[0], want)
    session.reset()
    shifted = session.step(ids, positions=[2 * i for i in range(64)])[0]
    assert (shifted - want).abs().max() > 1e-3


def test_context_overflow_is_refused_and_harmless(session):
    session.prefill(ids_of[:150])
    with pytest.raises(ContextFull, match="11 tokens do not fit into the context of 160 tokens of which 150"):
        session.prefill(ids_of[:11])
    with pytest.raises(ContextFull):
        session.step(ids_of[:11])
    assert session.n_past == 150
    got = session.step(ids_of[150:160])[0]
    with pytest.raises(ContextFull):
        session.step([1])
    # Room that kv_src frees counts.
    again = session.step(ids_of[150:160], kv_src=[])[0]
    assert torch.equal(got, again)


@pytest.mark.parametrize("arguments, message", [
    (dict(token_ids=[]), "1 to 64 tokens, not 0"),
    (dict(token_ids=[1] * 65), "1 to 64 tokens, not 65"),
    (dict(token_ids=[320]), "token ids must be 0 to 319"),
    (dict(token_ids=[-1]), "token ids must be 0 to 319"),
    (dict(token_ids=[1], logits_start=1), "logits_start=1"),
    (dict(token_ids=[1, 2], positions=[0]), "one entry for each of the 2 tokens"),
    (dict(token_ids=[1, 2], tree_mask=[1]), "one entry for each of the 2 tokens"),
    (dict(token_ids=[1], kv_src=[0, 0]), "ascending"),
    (dict(token_ids=[1], kv_src=[4]), r"0 to 3"),
    (dict(token_ids=[1], kv_src=[-1]), "ascending"),
])
def test_bad_arguments(session, arguments, message):
    session.step([1, 2, 3, 4])
    with pytest.raises(ValueError, match=message):
        session.step(**arguments)
    assert session.n_past == 4
    session.step([1])  # still usable


def test_masks_that_the_kernels_refuse(session):
    """A token that does not see itself: refused by the backend with its own sentence, until reset()."""
    session.step([1, 2])
    with pytest.raises(RuntimeError, match="program failed: .*mask"):
        session.step([3, 4], tree_mask=[1, 1])
    with pytest.raises(RuntimeError, match="reset"):
        session.step([3])
    session.reset()
    assert session.step([3])[0].isfinite().all()


def test_every_step_is_one_delegate_call(session):
    session.backend.take_stats()
    before = session.steps
    session.prefill(ids_of[:130])
    session.step([1])
    stats = session.backend.take_stats()
    assert stats.calls == session.steps - before == 4
    assert stats.tokens == 131
    assert stats.ffn_calls == 4 * 2 and stats.experts_total == 4 * 2 * 6
    assert 0 < stats.experts_read < stats.experts_total
    assert session.backend.take_stats().calls == 0


def test_sessions_do_not_share_caches(tiny_pte):
    path = tiny_pte()
    first, second = Session(path, threads=1), Session(path)
    first.prefill(ids_of[:20])
    second.prefill(ids_of[20:90])
    want = one_by_one(Session(path), [*ids_of[:20], 9])[0][-1:]
    assert_close(first.step([9])[0], want)


def test_dense_model_reads_no_experts(tiny_pte):
    session = Session(tiny_pte(ffn_type="vanilla"), threads=1)
    session.backend.take_stats()
    session.step([1, 2])
    stats = session.backend.take_stats()
    assert (stats.calls, stats.ffn_calls, stats.read_share) == (1, 0, None)
