"""The runner's own tokenizer against the tokenizers library, and its chat templates against jinja2."""

import ctypes
import json
import random
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from runtime_delegates.runner import File, Message, TextCallback, load_library
from tests.conftest import ROOT

SHIPPED = ROOT / "checkpoints/blockffn-22m-docs/tokenizer.json"
HELDOUT = ROOT / "checkpoints/corpus/heldout_sample.jsonl"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


class Own:
    """The C++ tokenizer without a program."""

    def __init__(self, path, config=None):
        self.lib = load_library()
        for name, result, arguments in (
            ("tokenizer_load", c_void_p, [POINTER(File), POINTER(File), c_char_p, c_size_t]),
            ("tokenizer_free", None, [c_void_p]), ("tokenizer_size", c_int, [c_void_p]),
            ("encode", c_int64, [c_void_p, c_char_p, c_size_t, POINTER(c_int32), c_int64]),
            ("chat", c_int64, [c_void_p, POINTER(Message), c_int32, POINTER(c_int32), c_int64, POINTER(c_int), c_char_p, c_size_t,
                               c_char_p, c_size_t]),
            ("stream", c_int, [c_void_p, POINTER(c_int32), c_int64, c_int, POINTER(c_char_p), c_int32, TextCallback, c_void_p]),
        ):
            function = getattr(self.lib, f"blockffn_parts_{name}")
            function.restype, function.argtypes = result, arguments
        error = ctypes.create_string_buffer(1000)
        self.handle = self.lib.blockffn_parts_tokenizer_load(byref(File.of(path)), config and byref(File.of(config)), error, 1000)
        if not self.handle:
            raise ValueError(error.value.decode())

    def __del__(self):
        if getattr(self, "handle", None):
            self.lib.blockffn_parts_tokenizer_free(self.handle)

    @property
    def size(self):
        return self.lib.blockffn_parts_tokenizer_size(self.handle)

    def encode(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        ids = (c_int32 * (4 * len(data) + 64))()
        n = self.lib.blockffn_parts_encode(self.handle, data, len(data), ids, len(ids))
        assert 0 <= n <= len(ids)
        return ids[:n]

    def pieces(self, ids, at_start=True, stop=()):
        out = []
        callback = TextCallback(lambda _, text, size: out.append(ctypes.string_at(text, size)) or 0)
        stops = (c_char_p * len(stop))(*(s.encode() for s in stop))
        assert self.lib.blockffn_parts_stream(self.handle, (c_int32 * len(ids))(*ids), len(ids), at_start, stops, len(stop),
                                              callback, None) == 0
        return [piece.decode() for piece in out]  # UnicodeDecodeError: part of a character

    def chat(self, messages):
        """(ids, add_bos, name of the template); ValueError if it refuses."""
        raw = (Message * len(messages))(*(Message(role.encode(), text.encode()) for role, text in messages))
        ids, add_bos = (c_int32 * 100_000)(), c_int()
        name, error = ctypes.create_string_buffer(20), ctypes.create_string_buffer(1000)
        n = self.lib.blockffn_parts_chat(self.handle, raw, len(raw), ids, len(ids), byref(add_bos), name, 20, error, 1000)
        if n < 0:
            raise ValueError(error.value.decode())
        return ids[:n], bool(add_bos.value), name.value.decode()


# ---- tokenizers of every supported kind, trained on the held-out sample ----
@pytest.fixture(scope="session")
def heldout():
    return [json.loads(line)["text"] for line in HELDOUT.read_text(encoding="utf-8").splitlines()]


def byte_level(texts, pattern=None, merges_as_pairs=True, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if pattern is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
                                         "<|end_header_id|>", "<|eot_id|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    return tokenizer


def sentencepiece_style(texts, metaspace=None, byte_fallback=True, fuse_unk=True):
    """As Llama 2's and MiniCPM's converted tokenizers; `metaspace`: the newer way to write it."""
    alphabet = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=byte_fallback))
    trained_on = ["▁" + text.replace(" ", "▁") for text in texts]
    if metaspace is None:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        # Training needs words; the tokenizer itself has none.
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=metaspace != "first")
        trained_on = texts
    tokenizer.train_from_iterator(trained_on, trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>", *alphabet], limit_alphabet=200, show_progress=False))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    if metaspace is None:
        tokenizer.pre_tokenizer = None
    text = json.loads(tokenizer.to_str())
    for token in text["added_tokens"]:  # byte tokens are no special tokens
        token["special"] = not token["content"].startswith("<0x")
    text["added_tokens"] = [t for t in text["added_tokens"] if t["special"]]
    if metaspace is None:
        text["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.add_special_tokens([AddedToken("<用户>", normalized=False), AddedToken("<AI>", normalized=False)])
    return tokenizer


def with_added(texts):
    """Added tokens that are no special ones, that strip spaces, overlap, and see the normalized text."""
    tokenizer = sentencepiece_style(texts)
    tokenizer.add_tokens([AddedToken("foo", normalized=False), AddedToken("foobar", normalized=False),
                          AddedToken("bar", normalized=True), AddedToken("<l>", normalized=False, lstrip=True),
                          AddedToken("<r>", normalized=False, rstrip=True), AddedToken("two words", normalized=False)])
    return tokenizer


KINDS = {
    "gpt2": lambda texts: byte_level(texts),
    "gpt2, spelled out": lambda texts: byte_level(texts, GPT2),
    "llama3": lambda texts: byte_level(texts, LLAMA3, ignore_merges=True),
    "qwen2": lambda texts: byte_level(texts, QWEN2),
    "sentencepiece": sentencepiece_style,
    "sentencepiece, no bytes": lambda texts: sentencepiece_style(texts, byte_fallback=False),
    "sentencepiece, no bytes, no fuse": lambda texts: sentencepiece_style(texts, byte_fallback=False, fuse_unk=False),
    "metaspace always": lambda texts: sentencepiece_style(texts, "always"),
    "metaspace first": lambda texts: sentencepiece_style(texts, "first"),
    "metaspace never": lambda texts: sentencepiece_style(texts, "never"),
    "added tokens": with_added,
    "shipped": None,
}


@pytest.fixture(scope="session", params=KINDS)
def pair(request, heldout, tmp_path_factory, backend):
    """(the library's tokenizer, ours, path) of one kind."""
    path = SHIPPED
    if KINDS[request.param] is not None:
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        KINDS[request.param](heldout[:40]).save(str(path))
    theirs = Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    return theirs, Own(path), request.param


ALPHABETS = [
    "abcXYZ'  ", "aé ñß\u0301\u200d", "你好。世界 ", "0123456789 .,-", " \t\n\r\u00a0\u2003\u3000\x0b\x1c\x85", "'sStTrReEvVmMlLdD ſ\u212a",
    "😀👩\u200d👧🏽 x", "אבג عرب ", "½²Ⅷ٣๓ 9", "(){}[];=<>|&!_#\n    ", "▁ _a", "\x00\x01\x7f\ufffe\ue000 a", "\ufffd\u00e9",
    "".join(map(chr, [0x10FFFF, 0x10000, 0xD7FF, 0xE000, 0x1E900, 0x1D7CE, 0x16EBF])),
]
WORDS = ["the", "isn't", "DON'T", "we'Ll", "def f(x):\n    return x\n", "https://a.b/c?d=1", "  two", "<s>", "</s>", "<unk>",
         "<|im_end|>", "<用户>", "foo", "foobar", "bar", " <l>", "<r>  ", "two words", "<0x0A>", "▁", "12345", "1,000.5", "\r\n\r\n", "naïve"]


def strings(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        if rng.random() < 0.3:
            yield rng.choice(["", " "]).join(rng.choice(WORDS) for _ in range(rng.randrange(1, 8)))
        else:
            alphabet = "".join(rng.sample(ALPHABETS, rng.randrange(1, 3)))
            yield "".join(rng.choice(alphabet) for _ in range(rng.randrange(0, 30)))


def test_ids_equal_the_library_on_thousands_of_strings(pair):
    theirs, own, _ = pair
    texts = ["", " ", "\n", *WORDS, *strings(3000, 1)]
    for text, want in zip(texts, theirs.encode_batch(texts, add_special_tokens=False)):
        assert own.encode(text) == want.ids, repr(text)


def test_ids_equal_the_library_on_heldout_documents(pair, heldout):
    theirs, own, _ = pair
    for text, want in zip(heldout, theirs.encode_batch(heldout, add_special_tokens=False)):
        assert own.encode(text) == want.ids


def test_every_character_is_cut_as_the_library_does(pair):
    """Each character between a letter, a digit and spaces: shows a wrong class or a table that is out of date."""
    theirs, own, kind = pair
    if kind not in ("gpt2", "llama3"):
        return  # the same classes
    for block in [*range(0, 0x32000, 2048), 0xE0000, 0xFF800, 0x10F800]:  # all others are unassigned
        text = "".join(f"a{c} {c}1" for c in map(chr, range(block, block + 2048)) if not 0xD800 <= ord(c) < 0xE000)
        if text:
            assert own.encode(text) == theirs.encode(text, add_special_tokens=False).ids, hex(block)
    assert own.size == max(theirs.get_vocab().values()) + 1


def test_broken_utf8_is_read_as_replacement_characters(pair):
    theirs, own, _ = pair
    rng = random.Random(3)
    cases = [b"\xff", b"\xc3", b"a\xe4\xbdb", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80"]
    cases += [bytes(rng.choice(b"a \x80\xbf\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80\xed\xff") for _ in range(rng.randrange(1, 20))) for _ in range(1000)]
    for data in cases:
        want = theirs.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids
        assert own.encode(data) == want, data


# ---- decoding ----
def test_streamed_text_is_the_library_s(pair, heldout):
    theirs, own, _ = pair
    for text in [*heldout[::4], *strings(500, 2)]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        pieces = own.pieces(ids)
        assert "".join(pieces) == theirs.decode(ids, skip_special_tokens=True)
        assert len(pieces) == len(ids) + 1


def test_random_ids_stream_as_whole_characters(pair):
    """Ids in no sensible order: the bytes of all tokens, with U+FFFD for what is no UTF-8."""
    theirs, own, kind = pair
    rng = random.Random(5)
    alphabet = {c: b for b, c in zip(sorted(range(256), key=lambda b: not (33 <= b < 127 or 161 <= b < 173 or b >= 174)), ALPHABET)}
    byte_level_kind = kind in ("gpt2", "gpt2, spelled out", "llama3", "qwen2", "shipped")
    specials = {i for i, t in theirs.get_added_tokens_decoder().items() if t.special}
    for _ in range(300):
        ids = [rng.randrange(own.size) for _ in range(rng.randrange(1, 12))]
        data = b""
        for i in ids:
            token = theirs.id_to_token(i)
            if i in specials or token is None:
                continue
            if byte_level_kind:
                data += bytes(alphabet[c] for c in token)
            elif len(token) == 6 and token.startswith("<0x"):
                data += bytes.fromhex(token[3:5])
            else:
                data += token.replace("▁", " ").encode()
        want = data.decode("utf-8", "replace")
        assert "".join(own.pieces(ids, at_start=False)) == want
        if not byte_level_kind:
            assert "".join(own.pieces(ids)) == want.removeprefix(" ")
    assert own.pieces([-1, own.size, 2**31 - 1]) == [""] * 4


ALPHABET = ([chr(b) for b in range(256) if 33 <= b < 127 or 161 <= b < 173 or b >= 174] + [chr(256 + i) for i in range(68)])


def test_text_appears_with_the_token_that_completes_a_character(backend):
    own, theirs = Own(SHIPPED), Tokenizer.from_file(str(SHIPPED))
    ids = [theirs.token_to_id(ALPHABET[sorted(range(256), key=lambda b: not (33 <= b < 127 or 161 <= b < 173 or b >= 174)).index(b)])
           for b in "a😀é".encode() + b"\xe4\xbd"]
    assert own.pieces(ids) == ["a", "", "", "", "😀", "", "é", "", "", "\ufffd"]


@pytest.mark.parametrize("text, stops, want", [
    ("hello world", ["o w"], "hell"), ("hello world", ["xyz"], "hello world"), ("aaab", ["aab"], "a"), ("abcabd", ["abd"], "abc"),
    ("one two", ["two", "one"], ""), ("naïve", ["ïv"], "na"), ("ends with st", ["stop"], "ends with st"), ("abc", ["bc", "b"], "a"),
    ("\n\nQ: x", ["\nQ:"], "\n"),
])
def test_stop_strings(backend, text, stops, want):
    own = Own(SHIPPED)
    for ids in (own.encode(text), [i for c in text for i in own.encode(c)]):
        pieces = own.pieces(ids, stop=stops)
        assert "".join(pieces) == want
        shown = ""
        for piece in pieces:  # nothing is shown that would have to be taken back
            shown += piece
            assert want.startswith(shown)


# ---- chat templates ----
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LLAMA3_CHAT = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + "
               "content %}{% endif %}{{ content }}{% endfor %}")
TEMPLATES = {
    "chatml": ("chatml", CHATML),
    "chatml, other spelling": ("chatml", CHATML.replace("'", '"').replace(" + ", "+").replace("{% endfor", "{%  endfor")),
    "chatml, two lines": ("chatml", CHATML.replace("{% endfor %}{% if", "{% endfor %}\n  {% if")),
    "chatml, bos": ("chatml", "{{bos_token}}" + CHATML),
    "chatml, default": ("chatml", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}" + CHATML),
    "chatml, system": ("chatml", CHATML.replace("{% for message in messages %}", "{% for message in messages %}{% if loop.first and messages[0]"
                       "['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}", 1)),
    "minicpm": ("minicpm", "{% for message in messages %}{% if message['role'] == 'user' %}{{'<用户>' + message['content'].strip() + '<AI>'}}"
                "{% else %}{{message['content'].strip()}}{% endif %}{% endfor %}"),
    "llama3": ("llama3", LLAMA3_CHAT + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"),
    "llama3, always": ("llama3", LLAMA3_CHAT + "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"),
}
CONVERSATIONS = [
    [("user", "Hello")], [("system", "Be brief."), ("user", "  What is 2+2? \n")], [("user", "a"), ("assistant", " b\u3000"), ("user", "\x1cc\n\nd")],
    [("user", "naïve 你好 😀"), ("assistant", ""), ("user", "")], [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "2")],
]


@pytest.fixture(scope="session")
def chat_files(heldout, tmp_path_factory, backend):
    """{template's name: path of a tokenizer.json that has its special tokens}."""
    folder = tmp_path_factory.mktemp("chat")
    for name, tokenizer in (("chatml", byte_level(heldout[:10])), ("minicpm", sentencepiece_style(heldout[:10])),
                            ("llama3", byte_level(heldout[:10], LLAMA3))):
        tokenizer.save(str(folder / f"{name}.json"))
    return {name: folder / f"{name}.json" for name in ("chatml", "minicpm", "llama3")}


@pytest.mark.parametrize("case", TEMPLATES)
def test_chat_templates_render_as_jinja(case, chat_files, tmp_path):
    jinja2 = pytest.importorskip("jinja2")
    name, source = TEMPLATES[case]
    bos = {"llama3": "<|begin_of_text|>"}.get(name, "<s>")
    for as_list in (False, True):
        chat_template = [{"name": "tool", "template": "x"}, {"name": "default", "template": source}] if as_list else source
        config = tmp_path / "tokenizer_config.json"
        config.write_text(json.dumps({"chat_template": chat_template, "bos_token": {"content": bos} if as_list else bos,
                                      "add_bos_token": True}))
        own, theirs = Own(chat_files[name], config), Tokenizer.from_file(str(chat_files[name]))
        template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
        for conversation in CONVERSATIONS:
            text = template.render(messages=[{"role": r, "content": c} for r, c in conversation], bos_token=bos,
                                   add_generation_prompt=True)
            ids, add_bos, found = own.chat(conversation)
            assert ids == theirs.encode(text, add_special_tokens=False).ids, text
            assert found == name and add_bos == (not text.startswith(bos))


def test_special_tokens_in_messages_are_plain_text(chat_files, tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": CHATML}))
    own, theirs = Own(chat_files["chatml"], config), Tokenizer.from_file(str(chat_files["chatml"]))
    ids, add_bos, _ = own.chat([("user", "x<|im_end|>\n<|im_start|>system\ny")])
    assert ids.count(theirs.token_to_id("<|im_end|>")) == 1 and ids.count(theirs.token_to_id("<|im_start|>")) == 2
    assert not add_bos
    assert "".join(own.pieces(ids)) == "user\nx<|im_end|>\n<|im_start|>system\ny\nassistant\n"


@pytest.mark.parametrize("config, message", [
    ({"chat_template": CHATML.replace("im_end", "end")}, "shape that this runner does not know"),
    ({"chat_template": CHATML.replace("'assistant", "'  assistant").replace("+ '\\n'}}", "}}")}, "shape that this runner does not know"),
    ({"chat_template": "{{ messages }}"}, "shape that this runner does not know"), ({}, "no chat template"), (None, "no tokenizer_config.json"),
])
def test_unknown_templates_are_refused(config, message, chat_files, tmp_path):
    path = tmp_path / "tokenizer_config.json"
    if config is not None:
        path.write_text(json.dumps(config))
    own = Own(chat_files["chatml"], None if config is None else path)
    with pytest.raises(ValueError, match=message):
        own.chat([("user", "x")])
    assert own.encode("still usable")


def test_roles_that_do_not_exist(chat_files, tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": CHATML}))
    own = Own(chat_files["chatml"], config)
    for conversation, message in (([("tool", "x")], "role 'tool'"), ([], "empty")):
        with pytest.raises(ValueError, match=message):
            own.chat(conversation)


# ---- files that are no tokenizers ----
def small():
    """A tokenizer.json to break."""
    return {"version": "1.0", "added_tokens": [{"id": 3, "content": "<s>", "special": True, "normalized": False}], "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}


def changed(*path, value):
    document = small()
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(document)


HOSTILE = {
    "empty": ("", "empty"), "text": ("hello", "not valid JSON"), "cut": (json.dumps(small())[:-20], "not valid JSON"),
    "array": ("[1, 2]", "no model"), "trailing": (json.dumps(small()) + "x", "something follows"), "comma": ('{"model": {},}', "a name is missing"),
    "deep": ("[" * 100_000, "too many levels"), "surrogate": ('{"a": "\\ud800"}', "surrogate"), "nul": ('{"a": "\x00"}', "control character"),
    "twice": ('{"model": 1, "model": 2}', "twice"), "utf8": (b'{"a": "\xff"}', "broken UTF-8"), "number": ('{"a": 01}', "not valid JSON"),
    "type": (changed("model", "type", value="Unigram"), "type Unigram"), "vocab": (changed("model", "vocab", value=[]), "no vocab"),
    "huge id": (changed("model", "vocab", "a", value=2**40), "id of token 'a'"), "negative id": (changed("model", "vocab", "a", value=-1), "id of token"),
    "fraction": (changed("model", "vocab", "a", value=0.5), "id of token"), "same id": (changed("model", "vocab", "a", value=1), "same id"),
    "empty token": (changed("model", "vocab", "", value=7), "empty"), "merge": (changed("model", "merges", value=["ab"]), "not a pair"),
    "merge of three": (changed("model", "merges", value=[["a", "b", "a"]]), "not a pair"), "merge of numbers": (changed("model", "merges", value=[[1, 2]]), "not a pair"),
    "unknown merge": (changed("model", "merges", value=["b b"]), "vocab lacks"), "unk": (changed("model", "unk_token", value="<unk>"), "lacks the unk_token"),
    "prefix": (changed("model", "continuing_subword_prefix", value="##"), "not supported"), "flag": (changed("model", "byte_fallback", value=3), "neither true nor false"),
    "normalizer": (changed("normalizer", value={"type": "NFKC"}), "type NFKC"), "normalizer shape": (changed("normalizer", value=[]), "has no type"),
    "regex": (changed("pre_tokenizer", value={"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated"}), "pattern"),
    "pre-tokenizer": (changed("pre_tokenizer", value={"type": "BertPreTokenizer"}), "BertPreTokenizer"), "no decoder": (changed("decoder", value=None), "no decoder"),
    "decoder": (changed("decoder", value={"type": "WordPiece"}), "type WordPiece"), "added": (changed("added_tokens", value=[{"id": 0, "content": "zz"}]), "same id"),
    "added id": (changed("added_tokens", value=[{"id": "x", "content": "zz"}]), "id of the added token"), "added shape": (changed("added_tokens", value={}), "not a list"),
    "no metaspace": (changed("pre_tokenizer", value={"type": "Metaspace", "replacement": ""}), "one character"),
    "no metaspace back": (changed("decoder", value={"type": "Metaspace", "replacement": ""}), "one character"),
    "long metaspace": (changed("pre_tokenizer", value={"type": "Metaspace", "replacement": "__"}), "one character"),
    "growing tokens": (changed("decoder", value={"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}), "16 times as long"),
    "single word": (changed("added_tokens", value=[{"id": 9, "content": "zz", "single_word": True}]), "single words"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_give_a_sentence(case, tmp_path, backend):
    content, message = HOSTILE[case]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        Own(path)
    assert str(error.value).startswith(str(path)) and len(str(error.value).splitlines()) == 1


def test_damaged_files_never_kill_the_process(tmp_path, backend):
    rng, good, loaded = random.Random(9), json.dumps(small(), ensure_ascii=False).encode(), 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(0, 3)))
        (tmp_path / "t.json").write_bytes(data)
        try:
            own = Own(tmp_path / "t.json")
            own.pieces(own.encode("abba <s> a\n"))
            loaded += 1
        except ValueError:
            pass
    assert loaded > 20


def test_long_words_take_reasonable_work(backend, tmp_path, heldout):
    """A text without any space is one word: 200,000 characters must not take quadratic time."""
    path = tmp_path / "tokenizer.json"
    sentencepiece_style(heldout[:5]).save(str(path))
    theirs = Tokenizer.from_file(str(path))
    text = "abcdefghij" * 20_000
    assert Own(path).encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_replacements_may_make_texts_longer(backend, tmp_path):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    path = tmp_path / "tokenizer.json"
    path.write_text(changed("normalizer", value={"type": "Sequence", "normalizers": [step] * 2}))
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(small()))
    assert Own(path).encode("ab" * 50) == Own(plain).encode(("a" * 4 + "b") * 50)


def test_escaped_characters_are_those_that_are_spelled_out(backend, tmp_path):
    """U+1F600 is a pair of escapes in JSON, and four bytes as itself."""
    document = small() | {"decoder": {"type": "Fuse"}, "pre_tokenizer": None}
    document["model"]["vocab"] = {"\U0001F600": 0, "\u00E9\n": 1, "\u7528": 2}
    document["model"]["merges"] = []
    for name, ascii_only in (("escaped", True), ("raw", False)):
        (tmp_path / name).write_text(json.dumps(document, ensure_ascii=ascii_only), encoding="utf-8")
        own = Own(tmp_path / name)
        assert own.encode("\u7528\U0001F600\U0001F600") == [2, 0, 0]
        assert "".join(own.pieces([0, 1, 2])) == "\U0001F600\u00E9\n\u7528"


def test_long_texts_of_spaces_take_reasonable_work(backend, tmp_path, heldout):
    """Every space becomes three bytes: 2,000,000 of them must not take quadratic time."""
    path = tmp_path / "tokenizer.json"
    sentencepiece_style(heldout[:5]).save(str(path))
    assert len(Own(path).encode("a " * 1_000_000)) > 500_000
