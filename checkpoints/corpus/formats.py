"""Converters for documentation that is neither HTML nor XML.

Each function takes the decoded (or, for SWORD, raw) content of one file and
returns plain text in the layout that convert.py describes, or None when the
file holds nothing of use.  Lengths are in characters.
"""

import re
import zlib

# ------------------------------------------------------------------- Perl POD

POD_ENTITY = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/", "amp": "&", "quot": '"'}


def pod_code(match):
    letter, body = match.group(1), match.group(2) if match.group(2) is not None else match.group(3)
    body = body.strip() if match.group(2) is not None else body
    if letter in "XZ":
        return ""
    if letter == "E":
        return POD_ENTITY.get(body, body if len(body) == 1 else "")
    if letter == "L":
        return body.split("|")[0].replace('"', "").strip("/")
    return body


POD_CODES = re.compile(r"([BCEFILSXZ])(?:<<+\s(.*?)\s>>+|<([^<>]*)>)", re.S)


def pod_to_text(source):
    out, skipping = [], False
    for para in re.split(r"\n[ \t]*\n", source):
        para = para.strip("\n")
        if para.startswith(("=begin", "=for")):
            skipping = para.startswith("=begin")
        elif para.startswith("=end"):
            skipping = False
        elif skipping or not para.strip() or para.startswith(
                ("=encoding", "=over", "=back", "=cut", "=pod")):
            continue
        elif para[0] in " \t":
            out.append(para.expandtabs(8).rstrip())
        else:
            item = para.startswith("=item")
            text = re.sub(r"^=\w+\s*", "", re.sub(r"\n=cut\s*$", "", para))
            for _ in range(4):                       # codes nest; innermost first
                text = POD_CODES.sub(pod_code, text)
            text = " ".join(text.split())
            if item:
                text = "- " + text.lstrip("* ")
            if text.strip("- "):
                out.append(text)
    return "\n\n".join(out)


# ------------------------------------------------------------------ man pages

ROFF_CHARS = {"aq": "'", "em": "--", "en": "-", "lq": '"', "rq": '"', "bu": "-", "dq": '"', "co": "(c)",
              "oq": "'", "cq": "'", "ha": "^", "ti": "~", "rs": "\\", "mc": "u", "->": "->", "<=": "<=",
              ">=": ">=", "+-": "+-", "ga": "`", "or": "|", "mu": "x", "bv": "|", "tm": "(TM)", "rg": "(R)"}


def roff_inline(text):
    text = re.sub(r"\\\".*", "", text)
    text = re.sub(r"\\f(?:\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^,/:%)]|\\[mvhkw]'[^']*'", "", text)
    text = re.sub(r"\\[(*]?\((..)|\\\[(..)\]|\\\*(?:\[[^]]*\]|\(..|.)",
                  lambda m: ROFF_CHARS.get(m.group(1) or m.group(2) or "", ""), text)
    return re.sub(r"\\(.)", lambda m: {"e": "\\", "-": "-", " ": " ", "~": " ", "0": " ",
                                        "c": "", "'": "'"}.get(m.group(1), m.group(1)), text)


def roff_args(text):
    return [roff_inline(a or b) for a, b in re.findall(r'"((?:[^"]|"")*)"?|(\S+)', text)]


def man_to_text(source):
    """None for mdoc pages and for pages that only include another one."""
    if re.search(r"^\.(?:Dd|so) ", source, re.M):
        return None
    out, para, state = [], [], {"nf": False, "tag": False}

    def flush(sep="\n\n"):
        if para:
            joined = "\n".join("    " + p for p in para).rstrip() if state["nf"] else " ".join(
                " ".join(para).split())
            out.append(sep + joined)
            para.clear()

    lines = iter(source.split("\n"))
    for line in lines:
        if not line.startswith((".", "'")):
            text = roff_inline(line)
            if not text.strip() and not state["nf"]:
                flush()
            else:
                para.append(text)
        else:
            macro, _, rest = line[1:].strip().partition(" ")
            if macro in ("TS", "de", "ig", "EQ"):     # tables, definitions, equations
                stop = {"TS": ".TE", "EQ": ".EN"}.get(macro, "..")
                for inner in lines:
                    if inner.startswith(stop):
                        break
            elif macro in ("SH", "SS"):
                flush()
                state["nf"] = False
                out.append("\n\n" + " ".join(roff_args(rest) or [roff_inline(next(lines, ""))]))
            elif macro in ("PP", "P", "LP", "sp", "RS", "RE", "HP"):
                flush() if macro != "sp" or not state["nf"] else para.append("")
            elif macro in ("nf", "EX", "fi", "EE"):
                flush()
                state["nf"] = macro in ("nf", "EX")
            elif macro == "IP":
                flush()
                tag = (roff_args(rest) or [""])[0].strip()
                para.append("- " if tag in "-*o" else tag + ": " if tag else "")
            elif macro in ("TP", "TQ"):
                flush()
                state["tag"] = True
            elif macro in ("B", "I", "SM", "SB"):
                para.append(" ".join(roff_args(rest)))
            elif macro in ("BR", "RB", "IR", "RI", "BI", "IB"):
                para.append("".join(roff_args(rest)))
            elif macro in ("UR", "MT", "UE", "ME"):
                para.extend(roff_args(rest))
        if state["tag"] and para:                     # the first text after .TP is the term
            para[-1] = para[-1].rstrip(": ") + ":"
            state["tag"] = False
    flush()
    return "".join(out)


# ------------------------------------------------------------------- GNU info

def info_to_text(source):
    nodes = []
    for node in source.split("\x1f"):
        node = node.lstrip("\n\x0c")
        head, _, body = node.partition("\n")
        if "Node:" not in head or "\x00\x08[index" in body:   # preamble, tag table, index
            continue
        lines, in_menu = [], False
        for line in body.split("\n"):
            if line.startswith("* Menu:"):
                in_menu = True
            elif in_menu and not line.strip():
                continue
            elif in_menu and (line.startswith("* ") or line[0] == " "):
                continue
            elif in_menu and not line.startswith("* "):
                in_menu = ("--" in line and len(line) < 78)   # sub-heading of a detailed menu
                if not in_menu:
                    lines.append(line)
            else:
                lines.append(line)
        text = "\n".join(lines)
        text = re.sub(r"^(.+)\n[*=\-.]{3,}$", r"\1", text, flags=re.M)      # underlined headings
        text = re.sub(r"\*[Nn]ote ([^:]+)::", r"\1", text)
        text = re.sub(r"\*[Nn]ote\s+[^:]+:\s+([^.,]+)", r"\1", text)
        nodes.append(text.strip("\n"))
    return "\n\n".join(nodes)


# ------------------------------------------------------ games, sayings, scripture

def wml_to_text(source):
    """The story text and the dialogue of a game scenario (Wesnoth markup language)."""
    out, speaker = [], ""
    for line in re.finditer(r'^\s*(speaker|message|story|description|text|name|summary|note)\s*='
                            r'\s*(?:_\s*"((?:[^"]|"")*)"|(\w+)\s*$)', source, re.M):
        key, text, word = line.groups()
        if key == "speaker":
            speaker = word or ""
        elif text and key != "name":
            text = " ".join(re.sub(r"</?\w[^>]*>|^\w+ *\^", "", text.replace('""', '"')).split())
            spoken = key == "message" and speaker not in ("", "narrator", "unit", "second_unit")
            out.append(f"{speaker}: {text}" if spoken else text)
            speaker = ""
    return "\n\n".join(out)


def fortune_to_text(source):
    return re.sub(r"^%$", "", source.expandtabs(8), flags=re.M)


def sword_to_text(data):
    """A SWORD module: zlib streams one after the other, each a book with XML markup."""
    books = []
    while data:
        stream = zlib.decompressobj()
        try:
            books.append(stream.decompress(data))
        except zlib.error:
            break
        data = stream.unused_data
    text = b"\n".join(books).decode("utf-8", "replace")
    text = re.sub(r"<note.*?</note>", "", text, flags=re.S)
    text = re.sub(r"<chapter[^>]*>|<div[^>]*>", "\n\n", text)
    text = re.sub(r"<(?:/verse|verse[^>]*eID)[^>]*>", "\n", text)
    return "\n".join(" ".join(line.split()) for line in re.sub(r"<[^>]*>", "", text).split("\n"))
