"""The corpus rebuild: cleaning rules, conversions, manifest, and a whole build of two small packages."""

import collections
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from hashlib import blake2b, sha256
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest

CORPUS = Path(__file__).resolve().parents[2] / "checkpoints/corpus"


@pytest.fixture(scope="module")
def build():
    """checkpoints/corpus/build.py as a module; the folder is a script's, not a package."""
    sys.path.insert(0, str(CORPUS))
    spec = importlib.util.spec_from_file_location("corpus_build", CORPUS / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus_build"] = module  # its worker processes look their functions up by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules["corpus_build"]
    sys.path.remove(str(CORPUS))


@pytest.fixture(scope="module")
def manifest():
    return json.loads((CORPUS / "manifest.json").read_text())


# ---- what the repository ships ----

def test_every_package_is_pinned_and_licensed(build, manifest):
    packages = manifest["packages"]
    assert [p["name"] for p in packages] == [rule["name"] for rule in build.load_rules()]
    for package in packages:
        assert package["version"] and re.fullmatch("[0-9a-f]{64}", package["sha256"]), package["name"]
        assert package["licence"] not in ("", "unknown", "other", "unrecognized", "same as upstream"), package["name"]
        assert package["bytes"] == sum(package["bytes_by_kind"].values())
    kept = sum(package["bytes"] for package in packages)
    assert 0.95 * kept < manifest["train"]["bytes"] + manifest["heldout"]["bytes"] <= kept


def test_the_sample_is_held_out_text_with_a_licence(manifest):
    licences = {package["name"]: package["licence"] for package in manifest["packages"]}
    lines = (CORPUS / "heldout_sample.jsonl").read_bytes().splitlines()
    assert 250_000 < sum(map(len, lines)) + len(lines) <= 300_000
    for document in map(json.loads, lines):
        assert int.from_bytes(blake2b(document["text"].encode(), digest_size=8).digest(), "big") % 100 == 0
        assert document["licence"] == licences[document["source"]]


# ---- cleaning ----

def test_cut_keeps_every_word(build):
    clean = build.clean
    text = "\n\n".join(f"paragraph {i} " + "word " * 50 for i in range(2000))
    pieces = clean.cut(text)
    assert len(pieces) > 2 and all(len(piece) <= clean.MAX_CHARS for piece in pieces)
    assert " ".join(pieces).split() == text.split()
    assert clean.cut("short") == ["short"]
    assert "".join(clean.cut("x" * 450_000)) == "x" * 450_000  # nowhere to cut


@pytest.mark.parametrize("text, good", [
    ("The words of this text are in English and it is long enough to keep. " * 10, True),
    ("too short", False),
    ("0123456789 +-*/ " * 50, False),
    ("Это русский текст, он не нужен для этой модели. " * 20, False),
    ("Apache License\n  Version 2.0, January 2004\n" + "the terms of the licence are that you must not " * 20, False),
    ("lorem ipsum dolor sit amet consectetur adipiscing elit " * 20, False),
])
def test_looks_good(build, text, good):
    assert build.clean.looks_good(text, False, "a.html") == good


def test_duplicates_and_caps(build):
    prose = ["\n".join(f"Sentence {i} of the document number {n}, which is long enough to count as a line of its own."
                       for i in range(20)) for n in range(6)]
    raw = [(text, f"{n}.html", "prose") for n, text in enumerate(prose)]
    cleaner = build.clean.Cleaner()
    kept = cleaner.package(raw + [(prose[0].upper(), "copy.html", "prose")], "one", 1e9)
    assert [path for _, _, path, _ in kept] == [f"{n}.html" for n in range(6)]
    assert cleaner.package(raw, "two", 1e9) == []  # another package with the same texts adds nothing
    cap = 2.5 * len(prose[0])
    capped = build.clean.Cleaner().package(raw, "one", cap)
    assert len(capped) == 2 and sum(len(doc[0]) for doc in capped) <= cap


def test_held_out_documents_share_nothing_with_training(build):
    def doc(*lines):
        return ("\n".join(lines), "package", "path", "prose")

    long = [f"line number {i} that is long enough to be compared with other lines {i}" for i in range(9)]
    train = [doc("same opening " * 40, "tail a"), doc(*long[:6]), doc("something else entirely")]
    heldout = [doc("same opening " * 40, "tail b"), doc(*long[3:9]), doc(*long[2:6], "new"), doc("fresh", "text")]
    kept_train, kept_heldout = build.clean.separate(train, heldout)
    assert kept_train == train[1:]  # the first opens like a held-out one
    assert kept_heldout == [heldout[0], heldout[1], heldout[3]]  # all long lines of the third stand in train


# ---- conversion ----

@pytest.mark.parametrize("path, source, want", [
    ("usr/share/doc/x/a.html", "<html><head><title>no</title></head><body><nav>menu</nav><main><h1>Title</h1>"
     "<p>One &amp; two</p><pre>x = 1\n  y</pre><ul><li>a</li><li>b</li></ul></main><footer>f</footer></body>",
     "Title\n\nOne & two\n\n    x = 1\n      y\n- a\n- b"),
    ("usr/share/doc/x/a.html", "<table><tr><td>a</td><td>b</td></tr></table>", "a | b"),
    ("usr/share/doc/x/a.pod", "=head1 NAME\n\nB<bold> and C<< code >> E<lt>\n\n  verbatim\n\n=cut\n",
     "NAME\n\nbold and code <\n\n  verbatim"),
    ("usr/lib/x.py", "# Copyright 2020 Someone\n# All rights reserved\n\nimport os\n", "import os"),
    ("usr/share/doc/x/a.txt", "\u201cquoted\u201d \u2014 a\u00a0b\r\nline\x01", '"quoted" -- a b\nline'),
])
def test_conversion(build, path, source, want):
    text, is_code = build.stage.convert.to_text(path, source.encode())
    assert text == want and is_code == path.endswith(".py")


@pytest.mark.parametrize("source", ["", "<", "<pre>", "</div></main>", "<a <b <c", "<![CDATA[", "&#xffffffff;", "<main><p"])
def test_broken_html_is_no_error(build, source):
    build.stage.convert.to_text("a.html", source.encode())


# ---- a whole build ----

PROSE = "The {0} of page {1} is a text that has all the words which are to be found in an English page of {0}. "


def make_deb(folder, name, pages):
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: x\n")
    doc = root / "usr/share/doc" / name
    doc.mkdir(parents=True)
    (doc / "copyright").write_text("Files: *\nCopyright: someone\nLicense: Expat\n text\n")
    for number in range(pages):
        sentences = "".join(f"<p>{PROSE.format(f'{name} part {part}', number)}</p>" for part in range(9))
        (doc / f"{number}.html").write_text(f"<html><body><h1>{name} {number}</h1>{sentences}</body></html>")
    path = folder / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, path], check=True, capture_output=True)
    return path


@pytest.fixture
def workspace(build, tmp_path, monkeypatch):
    """Two packages in a cache, pinned in a manifest: nothing is downloaded."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs dpkg-deb")
    (tmp_path / "debs").mkdir()
    debs = {name: make_deb(tmp_path / "debs", name, 150) for name in ("first-doc", "second-doc")}
    pins = [{"name": name, "version": "1.0", "sha256": sha256(path.read_bytes()).hexdigest()}
            for name, path in debs.items()]
    (tmp_path / "manifest.json").write_text(json.dumps({"packages": pins}))
    monkeypatch.setattr(build, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(build, "SAMPLE", tmp_path / "sample.jsonl")
    monkeypatch.setattr(build, "load_rules", lambda: [{"name": name} for name in debs])
    monkeypatch.setattr(build, "candidate", lambda name: {"Version": "2.0"})
    args = SimpleNamespace(cache=str(tmp_path / "debs"), out=str(tmp_path / "corpus"), jobs=1, allow_newer=False,
                           cap_mb=9.0, no_sample=False, pack=str(tmp_path / "packed"),
                           unpack=[str(tmp_path / "packed"), str(tmp_path / "unpacked")])
    return SimpleNamespace(path=tmp_path, args=args, debs=debs)


def test_build_twice_gives_the_same_bytes(build, workspace):
    build.build(workspace.args)
    files = ["corpus/train.parquet", "corpus/heldout.parquet", "manifest.json", "sample.jsonl"]
    first = {name: (workspace.path / name).read_bytes() for name in files}
    shutil.rmtree(workspace.path / "stage")
    build.build(workspace.args)
    assert {name: (workspace.path / name).read_bytes() for name in files} == first
    rows = {split: pyarrow.parquet.read_table(workspace.path / f"corpus/{split}.parquet").to_pylist()
            for split in ("train", "heldout")}
    assert len(rows["train"]) > 250 and 0 < len(rows["heldout"]) < 15
    for split, documents in rows.items():
        for document in documents:
            digest = blake2b(document["text"].encode(), digest_size=8).digest()
            assert (int.from_bytes(digest, "big") % 100 == 0) == (split == "heldout")
            assert document["text"].startswith(f"{document['source']} {Path(document['path']).stem}\n\nThe ")
    counts = collections.Counter(d["source"] for d in rows["train"] + rows["heldout"])
    written = json.loads(first["manifest.json"])
    assert {p["name"]: p["documents"] for p in written["packages"]} == dict(counts)
    assert all(p["licence"] == "Expat" for p in written["packages"])
    assert written["train"]["parquet_sha256"] == sha256(first["corpus/train.parquet"]).hexdigest()


def test_changed_or_vanished_packages_are_refused(build, workspace):
    deb = workspace.debs["first-doc"]
    whole = deb.read_bytes()
    deb.write_bytes(whole + b"x")
    with pytest.raises(build.CorpusError, match="sha256 is .* the manifest says"):
        build.build(workspace.args)
    deb.unlink()
    with pytest.raises(build.CorpusError, match="pins 1.0 but the mirror now has 2.0"):
        build.build(workspace.args)
    assert not (workspace.path / "corpus/train.parquet").exists()


def test_pack_and_unpack(build, workspace):
    build.build(workspace.args)
    build.pack(workspace.args)
    build.unpack(workspace.args)
    for name in ("train.parquet", "heldout.parquet"):
        assert (workspace.path / "unpacked" / name).read_bytes() == (workspace.path / "corpus" / name).read_bytes()
    part = sorted((workspace.path / "packed").glob("*.xz"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(build.CorpusError, match="is damaged"):
        build.unpack(workspace.args)
