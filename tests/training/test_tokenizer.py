"""Tokenizers: lossless round trips, special tokens, streaming, both file formats."""

import json
import random

import pytest

from training.tokenizer import MAX_PENDING_TOKENS, StreamDecoder, load_tokenizer, train_tokenizer

TEXTS = ["def f(x):\n    return x + 1\n", "The quick brown fox jumps over the lazy dog. ", "naïve café, 日本語, 🙂👩‍👩‍👧",
         "\t\ttabs  and   runs of spaces \r\n"]
HARD = ["", " ", "\n", "a", " leading and trailing ", "\x00\x01\x7f", "<s>not a border</s> <unk>", "é\u0301\u200d", "🙂" * 5,
        "日本語テキスト", "\ufffd literal replacement \ufffd", "a\r\nb\rc", "\U0010ffff", "x" * 300]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(TEXTS * 20, 330, tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def sentencepiece_dir(tmp_path_factory):
    import sentencepiece

    out = tmp_path_factory.mktemp("sp")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_prefix=str(out / "tokenizer"), vocab_size=350, model_type="bpe",
        byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2, hard_vocab_limit=False)
    return out


def random_text(seed):
    rng = random.Random(seed)
    ranges = [(32, 126), (0xA0, 0x24F), (0x4E00, 0x4F00), (0x1F600, 0x1F64F), (0, 31)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(0, 60)))


def stream(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    return [decoder.push(i) for i in ids] + [decoder.flush()]


def test_special_tokens_have_the_first_ids(tokenizer):
    vocab = json.loads((tokenizer.path.parent / "tokenizer.json").read_text())["model"]["vocab"]
    assert [vocab[token] for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (1, [2])
    assert tokenizer.vocab_size == max(vocab.values()) + 1 <= 330


@pytest.mark.parametrize("text", HARD + TEXTS)
def test_round_trip_and_stream(tokenizer, text):
    ids = tokenizer.encode(text)
    assert all(3 <= i < tokenizer.vocab_size for i in ids)  # nothing added, nothing unknown, "<s>" spelled out
    assert tokenizer.decode(ids) == text
    assert "".join(stream(tokenizer, ids)) == text


def test_round_trip_of_random_text(tokenizer):
    for seed in range(200):
        text = random_text(seed)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert "".join(stream(tokenizer, ids)) == text


def test_batch_equals_single(tokenizer):
    assert tokenizer.encode_batch(HARD) == [tokenizer.encode(text) for text in HARD]


def test_stream_holds_back_half_characters(tokenizer):
    ids = tokenizer.encode("𐍈")  # four bytes, no merge covers it
    assert len(ids) == 4
    assert stream(tokenizer, ids) == ["", "", "", "𐍈", ""]
    assert stream(tokenizer, ids[:3])[:3] == ["", "", ""]  # never broken text while more may come
    assert stream(tokenizer, ids[:3])[3] == "\ufffd"


def test_stream_of_any_ids_is_valid_and_never_stuck(tokenizer):
    rng = random.Random(5)
    for _ in range(100):
        decoder, silent = StreamDecoder(tokenizer), 0
        for _ in range(40):
            piece = decoder.push(rng.randrange(3, tokenizer.vocab_size))
            piece.encode("utf-8")
            silent = 0 if piece else silent + 1
            assert silent < MAX_PENDING_TOKENS


def test_special_and_foreign_ids_give_no_text(tokenizer):
    hello = tokenizer.encode("hello")
    assert tokenizer.decode([1, *hello, 2, 999_999]) == "hello"
    assert "".join(stream(tokenizer, [1, *hello, 2])) == "hello"


def test_training_is_deterministic(tmp_path):
    train_tokenizer(TEXTS * 3, 300, tmp_path / "a")
    train_tokenizer(iter(TEXTS * 3), 300, tmp_path / "b")
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_vocabulary_below_the_bytes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 259"):
        train_tokenizer(TEXTS, 258, tmp_path)
    assert train_tokenizer([], 259, tmp_path).vocab_size == 259


def test_sentencepiece(sentencepiece_dir):
    tokenizer = load_tokenizer(sentencepiece_dir)
    assert tokenizer.is_sentencepiece and tokenizer.eos_ids == [2] and tokenizer.bos_id == 1
    for text in ["The quick brown fox", "return x + 1", "𐍈 bytes 日本", "two  spaces", "a"]:
        ids = tokenizer.encode(text)
        assert 1 not in ids and 2 not in ids
        assert tokenizer.decode(ids) == text
        assert "".join(stream(tokenizer, ids)) == text
        assert "".join(stream(tokenizer, [1, *ids, 2])) == text
    assert tokenizer.decode([1, 2, 10**6, -1]) == ""
    assert load_tokenizer(sentencepiece_dir / "tokenizer.model").encode("fox") == tokenizer.encode("fox")


def test_spaces_between_streamed_sentencepiece_words(sentencepiece_dir):
    tokenizer = load_tokenizer(sentencepiece_dir)
    text = "the fox jumps over the dog and the dog jumps over the fox"
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text and sum(map(bool, pieces)) > 5


@pytest.mark.parametrize("file, values, want", [
    ("generation_config.json", {"bos_token_id": 5, "eos_token_id": [7, 9]}, (5, [7, 9])),
    ("config.json", {"bos_token_id": 5, "eos_token_id": 7}, (5, [7])),
    ("tokenizer_config.json", {"bos_token": {"content": "</s>"}, "eos_token": "<s>"}, (2, [1])),
    ("tokenizer_config.json", {"bos_token": None}, (1, [2])),
])
def test_declared_special_tokens(tokenizer, tmp_path, file, values, want):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.path.read_bytes())
    (tmp_path / file).write_text(json.dumps(values))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.bos_id, loaded.eos_ids) == want


def test_generation_config_wins(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.path.read_bytes())
    (tmp_path / "config.json").write_text('{"eos_token_id": 4}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7]}')
    assert load_tokenizer(tmp_path).eos_ids == [7]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer.json or tokenizer.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        load_tokenizer(tmp_path / "absent.json")
    for name in ("tokenizer.json", "tokenizer.model"):
        (tmp_path / name).write_bytes(b"{ not a tokenizer")
        with pytest.raises(ValueError, match=f"{name}: not a"):
            load_tokenizer(tmp_path / name)
