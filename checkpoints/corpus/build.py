"""Rebuild the training corpus, byte for byte, from Debian `main` packages.

    python checkpoints/corpus/build.py                       # data/debs -> data/corpus
    python checkpoints/corpus/build.py --pack data/transport
    python checkpoints/corpus/build.py --unpack data/transport data/corpus
    python checkpoints/corpus/build.py --sample              # rewrite heldout_sample.jsonl

The packages and the rules that pick files from them are in packages.toml, the
pinned versions, checksums and licences in manifest.json.  Each .deb is fetched
with `apt-get download` into --cache (never installed), unpacked to a temporary
folder with `dpkg-deb -x`, turned into text by convert.py and kept as a small
stage file, so that a second run only redoes what changed.  All documents are
then cleaned, deduplicated, split and written to

    OUT/train.parquet, OUT/heldout.parquet   text, source, path, kind (strings)

Sizes are in bytes of UTF-8, MB means 10^6 bytes, MiB 2^20 bytes; document
lengths and limits (400, 200,000) are in characters.  The output depends only on
the .debs, on the rules, on these scripts and on the pyarrow version.
"""

import argparse
import collections
import concurrent.futures
import functools
import hashlib
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import tqdm

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

import clean
import stage

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "manifest.json"
SAMPLE = HERE / "heldout_sample.jsonl"
SAMPLE_BYTES = 300_000
PARTS = 2                   # xz streams, one process each
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
SCHEMA = pyarrow.schema([(name, pyarrow.string()) for name in ("text", "source", "path", "kind")])


class CorpusError(Exception):
    """A failure whose message tells the user what to do."""


def sha256_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path, write):
    """Calls write(part_path), then renames: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def run(command, **options):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout
    except FileNotFoundError:
        raise CorpusError(f"{command[0]} is not installed; this script needs Debian's apt and dpkg.")
    except subprocess.CalledProcessError as error:
        raise CorpusError(f"`{' '.join(command)}` failed: {error.stderr.strip()[-500:]}\n"
                          "If the package list is stale, run `apt-get update` as root first.")


# ------------------------------------------------------------------- downloads

def candidate(name):
    """The package as the mirror offers it now: its control fields."""
    text = run(["apt-cache", "show", "--no-all-versions", name])
    fields = dict(line.split(": ", 1) for line in text.split("\n\n")[0].splitlines()
                  if ": " in line and not line.startswith(" "))
    if "/" in fields.get("Section", ""):       # non-free and contrib carry a prefix
        raise CorpusError(f"{name} is in section {fields['Section']}, not in Debian main; "
                          "remove it from packages.toml.")
    return fields


def cached_deb(cache, name, version):
    escaped = version.replace(":", "%3a")
    found = sorted(cache.glob(f"{name}_{escaped}_*.deb"))
    return found[0] if found else None


def fetch(name, cache, pinned, allow_newer):
    """Path of the .deb to use; downloads it unless the cache has it."""
    if pinned and (deb := cached_deb(cache, name, pinned["version"])):
        version = pinned["version"]
    else:
        version = candidate(name)["Version"]
        if pinned and version != pinned["version"] and not allow_newer:
            raise CorpusError(
                f"{name}: the manifest pins {pinned['version']} but the mirror now has {version}. "
                "Either put the pinned .deb into the cache folder (an archive of old Debian packages "
                "has it), or run again with --allow-newer to take the new one; the text then differs.")
        deb = cached_deb(cache, name, version)
        if deb is None:
            run(["apt-get", "download", f"{name}={version}"], cwd=cache)
            deb = cached_deb(cache, name, version)
    digest = sha256_file(deb)
    if pinned and version == pinned["version"] and digest != pinned["sha256"]:
        raise CorpusError(f"{deb.name}: sha256 is {digest}, the manifest says {pinned['sha256']}. "
                          "Delete the file and run again; if it stays, the file is for another "
                          "architecture than the manifest's, or it is not the published one.")
    return deb, {"name": name, "version": version,
                 "architecture": deb.stem.rsplit("_", 1)[1], "sha256": digest}


# ----------------------------------------------------------------------- build

def load_rules():
    with open(HERE / "packages.toml", "rb") as handle:
        return tomllib.load(handle)["package"]


def load_manifest():
    return json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {"packages": []}


def write_parquet(path, documents):
    table = pyarrow.table([[doc[i] for doc in documents] for i in range(4)], schema=SCHEMA)
    write_atomically(path, lambda part: pyarrow.parquet.write_table(
        table, part, compression="zstd", compression_level=9, row_group_size=2000))


def summarise(entry, documents):
    kinds = collections.Counter()
    for text, _, _, kind in documents:
        kinds[kind] += len(text.encode())
    entry["documents"] = len(documents)
    entry["bytes"] = sum(kinds.values())
    entry["bytes_by_kind"] = dict(sorted(kinds.items()))


def build(args):
    rules, manifest = load_rules(), load_manifest()
    pins = {entry["name"]: entry for entry in manifest["packages"]}
    cache, out = Path(args.cache), Path(args.out)
    stage_dir = out.parent / "stage"
    for folder in (cache, out, stage_dir):
        folder.mkdir(parents=True, exist_ok=True)
    entries, debs = [], []
    for rule in tqdm.tqdm(rules, desc="fetch", unit="package", file=sys.stderr):
        deb, entry = fetch(rule["name"], cache, pins.get(rule["name"]), args.allow_newer)
        debs.append(deb)
        entries.append(entry)
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        staged = list(tqdm.tqdm(
            pool.map(functools.partial(stage.stage_package, stage_dir=stage_dir),
                     rules, debs, [entry["sha256"] for entry in entries]),
            total=len(rules), desc="convert", unit="package", file=sys.stderr))
    train, heldout, cleaner = [], [], clean.Cleaner()
    for rule, entry, path in zip(rules, entries, tqdm.tqdm(
            staged, desc="clean", unit="package", file=sys.stderr)):
        raw, licence, licences = stage.read_stage(path)
        entry["licence"], entry["licences"] = rule.get("licence", licence), licences
        kept = cleaner.package(raw, rule["name"], rule.get("cap_mb", args.cap_mb) * 1e6)
        summarise(entry, kept)
        for doc in kept:
            (heldout if clean.is_heldout(doc[0]) else train).append(doc)
    train, heldout = clean.separate(train, heldout)
    write_parquet(out / "train.parquet", train)
    write_parquet(out / "heldout.parquet", heldout)
    totals = {}
    for name, docs in (("train", train), ("heldout", heldout)):
        totals[name] = {"documents": len(docs), "bytes": sum(len(doc[0].encode()) for doc in docs),
                        "content_sha256": content_sha256(docs),
                        "parquet_sha256": sha256_file(out / f"{name}.parquet")}
        print(f"{out / name}.parquet  {totals[name]['documents']} documents  "
              f"{totals[name]['bytes'] / 1e6:.1f} MB  sha256 {totals[name]['parquet_sha256']}")
    result = {"pyarrow": pyarrow.__version__, **totals, "packages": entries}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    write_atomically(MANIFEST, lambda part: part.write_text(text))
    if not args.no_sample:
        write_sample(heldout, result)


def content_sha256(docs):
    """A checksum of the documents themselves, the same for every pyarrow version."""
    digest = hashlib.sha256()
    for doc in docs:
        digest.update(json_line(doc))
    return digest.hexdigest()


def json_line(doc):
    return json.dumps(doc, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


# ------------------------------------------------------- the sample in the repo

def read_parquet(path):
    if not path.exists():
        raise CorpusError(f"{path} is missing; build the corpus first (run this script without options).")
    columns = pyarrow.parquet.read_table(path).to_pydict()
    return list(zip(*(columns[name] for name in SCHEMA.names)))


def write_sample(heldout, manifest):
    """Whole held-out documents, one from each (package, kind) in turn until the budget is used."""
    licences = {entry["name"]: entry["licence"] for entry in manifest["packages"]}
    groups = collections.defaultdict(list)
    for doc in heldout:
        if 500 <= len(doc[0]) <= 8000 and licences.get(doc[1], "unknown") != "unknown":
            groups[doc[1], doc[3]].append(doc)
    queues = [sorted(groups[key], key=lambda doc: clean.digest(doc[0])) for key in sorted(groups)]
    lines, size = [], 0
    for depth in range(max(map(len, queues), default=0)):
        for queue in queues:
            if depth < len(queue):
                text, source, path, kind = queue[depth]
                line = json.dumps({"text": text, "source": source, "path": path, "kind": kind,
                                   "licence": licences[source]}, ensure_ascii=False) + "\n"
                if size + len(line.encode()) <= SAMPLE_BYTES:
                    lines.append(line)
                    size += len(line.encode())
    write_atomically(SAMPLE, lambda part: part.write_text("".join(lines), encoding="utf-8"))
    print(f"{SAMPLE.name}  {len(lines)} documents  {size} bytes")


# ------------------------------------------------------------------- transport

def compress_part(lines, path):
    def write(part):
        with lzma.open(part, "wb", format=lzma.FORMAT_XZ, filters=XZ) as handle:
            handle.writelines(lines)
    write_atomically(path, write)
    return path.stat().st_size


def pack(args):
    out, target = Path(args.out), Path(args.pack)
    header = {"pyarrow": pyarrow.__version__}
    documents = []
    for name in ("train", "heldout"):
        docs = read_parquet(out / f"{name}.parquet")
        header[name] = {"documents": len(docs), "content_sha256": content_sha256(docs),
                        "parquet_sha256": sha256_file(out / f"{name}.parquet")}
        documents += docs
        print(f"{name}.parquet sha256 {header[name]['parquet_sha256']}")
    lines = [json_line(doc) for doc in documents]
    half, parts, size = sum(map(len, lines)) / PARTS, [[] for _ in range(PARTS)], 0
    for line in lines:
        parts[min(PARTS - 1, int(size // half))].append(line)
        size += len(line)
    target.mkdir(parents=True, exist_ok=True)
    names = [target / f"corpus-{i}.jsonl.xz" for i in range(PARTS)]
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        sizes = list(tqdm.tqdm(pool.map(compress_part, parts, names), total=PARTS,
                               desc="compress", unit="part", file=sys.stderr))
    header["parts"] = {path.name: sha256_file(path) for path in names}
    write_atomically(target / "header.json", lambda part: part.write_text(json.dumps(header, indent=1)))
    total = sum(sizes) / 2**20
    print(f"{target}: {total:.2f} MiB in {PARTS} parts, from {size / 1e6:.1f} MB of JSON lines")


def unpack(args):
    source, out = Path(args.unpack[0]), Path(args.unpack[1])
    try:
        header = json.loads((source / "header.json").read_text())
    except FileNotFoundError:
        raise CorpusError(f"{source}/header.json is missing; this is not a folder written by --pack.")
    documents = []
    for name in tqdm.tqdm(sorted(header["parts"]), desc="unpack", unit="part", file=sys.stderr):
        if sha256_file(source / name) != header["parts"][name]:
            raise CorpusError(f"{source / name} is damaged (its sha256 differs); transfer it again.")
        with lzma.open(source / name) as handle:
            documents += [json.loads(line) for line in handle]
    start = 0
    for name in ("train", "heldout"):
        docs = documents[start:start + header[name]["documents"]]
        start += len(docs)
        if content_sha256(docs) != header[name]["content_sha256"]:
            raise CorpusError(f"{name}: the documents differ from those packed; transfer them again.")
        write_parquet(out / f"{name}.parquet", docs)
        digest = sha256_file(out / f"{name}.parquet")
        print(f"{name}.parquet sha256 {digest}")
        if digest != header[name]["parquet_sha256"]:
            message = (f"{name}.parquet: same documents, other file bytes (written by pyarrow "
                       f"{header['pyarrow']}, here {pyarrow.__version__}).")
            if header["pyarrow"] == pyarrow.__version__:
                raise CorpusError(message)
            print(message, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", default="data/debs", help="folder of .deb files (default %(default)s)")
    parser.add_argument("--out", default="data/corpus", help="output folder (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default %(default)s)")
    parser.add_argument("--cap-mb", type=float, default=9.0,
                        help="bytes kept of a package without its own cap_mb, in MB (default %(default)s)")
    parser.add_argument("--allow-newer", action="store_true",
                        help="take the mirror's version when the pinned one is gone; rewrites manifest.json")
    parser.add_argument("--no-sample", action="store_true", help="leave heldout_sample.jsonl as it is")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--pack", metavar="DIR", help="compress OUT into DIR for transport")
    action.add_argument("--unpack", nargs=2, metavar=("DIR", "OUT"), help="restore the parquet files")
    action.add_argument("--sample", action="store_true", help="only rewrite heldout_sample.jsonl")
    args = parser.parse_args()
    try:
        if args.pack:
            pack(args)
        elif args.unpack:
            unpack(args)
        elif args.sample:
            write_sample(read_parquet(Path(args.out) / "heldout.parquet"), load_manifest())
        else:
            build(args)
    except CorpusError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
