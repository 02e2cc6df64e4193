"""Decide which documents are worth keeping; deduplicate and split them.

Used by build.py and stage.py.  Lengths are in characters, budgets in bytes of
UTF-8.  Every order that matters comes from the input order or from a hash of
the text, never from a set or from the process's random hash seed.
"""

import collections
import hashlib
import re

MIN_CHARS = 400
MAX_CHARS = 200_000
MIN_LETTERS = 0.4           # of all characters
LONG_LINE = 40              # lines longer than this take part in near-duplicate detection
SEEN_OFTEN = 3              # such a line counts as seen when it came up more often than this
BOILERPLATE_DOCS = 20       # a line in more documents of one package than this is furniture
BOILERPLATE_CHARS = 25      # shorter lines ("Parameters", "Returns") carry structure: keep
HELDOUT_PERCENT = 1
OPENING = 300               # characters that tell near-duplicates across the split

STOPWORDS = frozenset("the of to and a in is for that this be with as are on it or by an if you "
                      "from can not which will when has have at was but all".split())
LICENCE_OPENING = re.compile(
    r"GNU (LESSER |LIBRARY |AFFERO )?GENERAL PUBLIC LICENSE\s+Version|GNU Free Documentation License\s+Version"
    r"|Apache License\s+Version 2\.0, January|Mozilla Public License Version", re.I)


def digest(text):
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def looks_good(text, is_code, path):
    """Long enough, mostly letters, English, not a licence."""
    if len(text) < MIN_CHARS:
        return False
    letters = sum(map(str.isalpha, text))
    if letters < MIN_LETTERS * len(text):
        return False
    if sum(1 for char in text if char > "\x7f" and char.isalpha()) > 0.03 * letters:
        return False
    if LICENCE_OPENING.search(text[:600]):
        return False
    words = re.findall(r"[A-Za-z]+", text[:50_000])
    if not words or len(text[:50_000]) / len(words) > 25:
        return False
    if is_code:
        return True
    return sum(word.lower() in STOPWORDS for word in words) > 0.08 * len(words)


def cut(text):
    """Pieces of at most MAX_CHARS, cut at a blank line or else at a line end."""
    pieces = []
    while len(text) > MAX_CHARS:
        at = max(text.rfind("\n\n", MAX_CHARS // 2, MAX_CHARS), 0) or text.rfind("\n", 1, MAX_CHARS)
        at = at if at > 0 else MAX_CHARS
        pieces.append(text[:at].strip("\n"))
        text = text[at:].strip("\n")
    return pieces + [text] if len(text) >= MIN_CHARS or not pieces else pieces


def long_lines(text):
    return [digest(line.strip()) for line in text.split("\n") if len(line.strip()) > LONG_LINE]


def trim_ends(documents):
    """Removes short lines that most pages of a package begin or end with, such as a slogan."""
    def ends(lines):
        return {line for line in lines[:3] + lines[-3:] if 10 <= len(line) < BOILERPLATE_CHARS}

    split = [(doc[0].split("\n"), doc) for doc in documents]
    counts = collections.Counter(line for lines, _ in split for line in ends(lines))
    limit = max(BOILERPLATE_DOCS, len(documents) * 0.3)
    result = []
    for lines, (text, path, kind) in split:
        bad = {line for line in ends(lines) if counts[line] > limit}
        if bad and kind != "code":
            middle = lines[3:-3] if len(lines) > 6 else []
            text = "\n".join([line for line in lines[:3] if line not in bad] + middle
                             + [line for line in lines[len(middle) + 3:] if line not in bad]).strip("\n")
        result.append((text, path, kind))
    return result


def drop_boilerplate(documents):
    """Removes prose lines that many documents of the package share."""
    counts = collections.Counter()
    split = [(doc[0].split("\n"), doc) for doc in documents]

    def candidates(lines, kind):
        return kind != "code" and (line for line in lines
                                   if len(line) >= BOILERPLATE_CHARS and line[0] != " ") or ()

    for lines, doc in split:
        counts.update(set(candidates(lines, doc[2])))
    result = []
    for lines, (text, path, kind) in split:
        bad = {line for line in candidates(lines, kind) if counts[line] > BOILERPLATE_DOCS}
        if bad:
            text = re.sub(r"\n{3,}", "\n\n", "\n".join(
                line for line in lines if line not in bad)).strip("\n")
        if len(text) >= MIN_CHARS:
            result.append((text, path, kind))
    return result


class Cleaner:
    """Remembers what earlier packages contributed."""

    def __init__(self):
        self.texts = set()                        # only asked for membership
        self.lines = collections.Counter()

    def package(self, raw, source, cap):
        """(text, source, path, kind) of the documents kept, in path order, at most `cap` bytes."""
        fresh = []
        for text, path, kind in drop_boilerplate(trim_ends(raw)):
            key = digest(" ".join(text.split()).lower())
            if key in self.texts:
                continue
            self.texts.add(key)
            fresh.append((text, source, path, kind))
        # a hash order makes the choice under the cap even over the package's chapters
        kept, size = [], 0
        for doc in sorted(fresh, key=lambda doc: digest(doc[2])):
            length = len(doc[0].encode())
            if size + length > cap:
                continue
            lines = long_lines(doc[0])
            seen = sum(self.lines[line] > SEEN_OFTEN for line in lines)
            if seen * 2 > len(lines):
                continue
            self.lines.update(lines)
            kept.append(doc)
            size += length
        return sorted(kept, key=lambda doc: natural(doc[2]))


def natural(path):
    name, _, piece = path.partition("#")
    return name, int(piece or 0)


def is_heldout(text):
    return int.from_bytes(digest(text), "big") % 100 < HELDOUT_PERCENT


def opening(text):
    return digest(" ".join(text[:OPENING * 4].split())[:OPENING])


def separate(train, heldout):
    """Makes the split honest.

    Train documents that open like a held-out one are dropped, and held-out documents more than
    half of whose long lines also stand in train are dropped too: they would measure memory.
    """
    openings = {opening(doc[0]) for doc in heldout}
    train = [doc for doc in train if opening(doc[0]) not in openings]
    lines = [long_lines(doc[0]) for doc in heldout]
    wanted = {line for group in lines for line in group}
    known = set()
    for doc in train:
        known.update(line for line in long_lines(doc[0]) if line in wanted)
    heldout = [doc for doc, group in zip(heldout, lines)
               if 2 * sum(line in known for line in group) <= len(group)]
    return train, heldout
