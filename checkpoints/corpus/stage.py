"""Unpack one Debian package and turn the files that its rule picks into text.

The result is cached as one parquet file per package, named by a checksum of
everything it depends on: the .deb, the rule, and this code.  Used by build.py.
"""

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet

import clean
import convert
import formats

DEFAULT_INCLUDE = ["usr/share/doc/*.html", "usr/share/doc/*.htm", "usr/share/doc/*.html.en"]
# Files that no package should contribute: licences, change logs, indexes, search pages, other
# languages, and the reST sources of pages that are already there as HTML.
NEVER = re.compile(
    r"(^|/)(copyright|licen[cs]es?|copying|gpl|lgpl|fdl|gfdl|changelog|changes|news|authors|contributors|"
    r"credits|thanks|search|genindex|genindex-.*|py-modindex|.*-modindex|index-all|index-\d+|allclasses.*|"
    r"allpackages.*|overview-tree|package-tree|package-use|constant-values|deprecated-list|serialized-form|"
    r"help-doc|.*_8h|.*_8h_source|.*-members|annotated|classes|hierarchy|functions.*|globals.*|namespaces|"
    r"namespacemembers.*|graph_legend|dir_[0-9a-f]{32}|files|inherits|print|all|ix01|go01|api-index-.*|"
    r"doxygen_crawl|book-?index|conceptindex|keyword-?index|bookindex|theindex|sitemap)"
    r"(\.[a-z0-9]+)*$"
    r"|(^|/)(_sources|_static|_modules|_downloads|_images|class-use|translations|src-html|locale|i18n|po|"
    r"node_modules|debian)/"
    r"|(^|/)(ar|bg|ca|cs|da|de|el|es|fa|fi|fr|gl|he|hu|id|it|ja|ko|nb|nl|nn|pl|pt|pt[-_]br|ro|ru|sk|sl|sv|"
    r"tr|uk|vi|zh|zh[-_]cn|zh[-_]tw|[a-z]{2}[-_](?!US|us|GB|gb)[A-Z]{2})/"
    r"|\.(ar|bg|ca|cs|da|de|el|es|fa|fi|fr|he|hu|id|it|ja|ko|nb|nl|pl|pt|pt-br|ro|ru|sk|sv|tr|uk|vi|zh)"
    r"(\.(html|txt|utf8|gz))*$|\.html\.(?!en)[a-z-]{2,5}(\.[a-z0-9-]+)?$|\.min\.js$", re.I)


def patterns(globs):
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs) or r"(?!)")


def pick_files(root, rule):
    """Sorted paths, relative to the package's root, of the files that the rule takes."""
    include, exclude = patterns(rule.get("include", DEFAULT_INCLUDE)), patterns(rule.get("exclude", []))
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, root)
            if (include.match(path) and not exclude.match(path) and not NEVER.search(path)
                    and not os.path.islink(full)):
                found.append(path)
    return sorted(found)


def unpack_tar(root, rule):
    """Unpacks the files that the rule takes out of a source archive inside the package."""
    include = patterns(rule["include"])
    for archive in sorted(Path(root).glob(rule["tar"])):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and include.match(member.name):
                    tar.extract(member, root, filter="data")


def read_licences(root, name):
    """(main licence, all short names) out of the package's copyright file."""
    path = Path(root, "usr/share/doc", name, "copyright")
    if not path.is_file():
        others = sorted(Path(root, "usr/share/doc").glob("*/copyright"))
        others = [other for other in others if other.is_file()]
        if not others:
            return "unknown", []
        path = others[0]
    text = convert.decode(path.read_bytes())
    names = []
    for found in re.findall(r"^License:[ \t]*(\S[^\n]*)", text, re.M | re.I):
        short = " ".join(found.split())[:60]
        if short not in names:
            names.append(short)
    if names and re.search(r"^Files:", text, re.M):
        first = re.search(r"^Files:[ \t]*\*\s.*?^License:[ \t]*(\S[^\n]*)", text, re.M | re.S)
        return (" ".join(first.group(1).split())[:60] if first else names[0]), sorted(names)
    # older free-form files point to the common licences, or quote a well-known text
    names = sorted(set(re.findall(r"common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", text)))
    for mark, short in (("Permission is hereby granted, free of charge", "MIT"),
                        ("Redistribution and use in source and binary forms", "BSD"),
                        ("PYTHON SOFTWARE FOUNDATION LICENSE", "PSF"), ("public domain", "public-domain"),
                        ("Apache License", "Apache-2.0"), ("Creative Commons Attribution", "CC-BY")):
        if mark.lower() in text.lower() and short not in names:
            names.append(short)
    return (" and ".join(names[:3]) or "unknown"), names


def kind_of(path, is_code, rule):
    if is_code:
        return "code"
    if patterns(rule.get("reference", [])).match(path):
        return "reference"
    return rule.get("kind", "prose")


def stage_package(rule, deb, sha256, stage_dir):
    """Path of the package's stage file; builds it unless it exists."""
    key = hashlib.sha256(json.dumps([sha256, rule], sort_keys=True).encode())
    for module in (convert, formats, clean):
        key.update(Path(module.__file__).read_bytes())
    key.update(Path(__file__).read_bytes())
    out = stage_dir / f"{rule['name']}-{key.hexdigest()[:16]}.parquet"
    if out.exists():
        return out
    paths, texts, kinds = [], [], []
    with tempfile.TemporaryDirectory(prefix="corpus-") as root:
        subprocess.run(["dpkg-deb", "-x", str(deb), root], check=True, capture_output=True)
        if "tar" in rule:
            unpack_tar(root, rule)
        licence, licences = read_licences(root, rule["name"])
        for path in pick_files(root, rule):
            converted = convert.to_text(path, Path(root, path).read_bytes(),
                                        rule.get("format"))
            if converted is None or not clean.looks_good(*converted, path):
                continue
            text, is_code = converted
            for number, piece in enumerate(clean.cut(text)):
                paths.append(path if number == 0 else f"{path}#{number}")
                texts.append(piece)
                kinds.append(kind_of(path, is_code, rule))
    table = pyarrow.table({"text": texts, "path": paths, "kind": kinds}, schema=pyarrow.schema(
        [(name, pyarrow.string()) for name in ("text", "path", "kind")],
        metadata={"licence": licence, "licences": json.dumps(licences)}))
    part = out.with_name(out.name + ".part")
    pyarrow.parquet.write_table(table, part, compression="zstd")
    os.replace(part, out)
    return out


def read_stage(path):
    table = pyarrow.parquet.read_table(path)
    columns = [table.column(name).to_pylist() for name in ("text", "path", "kind")]
    metadata = table.schema.metadata
    return list(zip(*columns)), metadata[b"licence"].decode(), json.loads(metadata[b"licences"])
