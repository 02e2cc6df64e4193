"""Turn one documentation or source file into clean plain text.

Used by build.py; nothing here touches the network or the disk.  The entry
point is `to_text(path, data)`: `path` is the file's path inside its Debian
package (it only decides the format), `data` its bytes.  It returns
`(text, is_code)`, or None for a format that is not handled; formats.py has the
converters for everything but HTML and XML.  Lengths are in
characters (Unicode code points).

Formats: HTML, DocBook/Mallard XML, Perl POD, man pages (the `man` macros, not
`mdoc`), GNU info, dictd dictionaries, plain text (.txt .rst .md ...) and
source code.  Headings and paragraphs come out one per line with blank lines
between, list items start with "- ", table cells are joined by " | ", code
blocks are indented by four spaces.

Standard library only, so that the text depends on nothing but the input.
"""

import gzip
import re
import unicodedata
from html.entities import html5
from html.parser import HTMLParser

import formats

CODE_SUFFIXES = frozenset(
    ".py .c .h .cc .cpp .hpp .go .rs .js .mjs .ts .rb .pl .pm .el .lua .sh .java .R .r .m .scm "
    ".rkt .ml .hs .erl .vim .tcl .ly .cfg .lisp .jl".split())
PLAIN_SUFFIXES = frozenset(".txt .text .rst .md .mdwn .faq .adoc .asciidoc .des .dict .data".split())
HTML_SUFFIXES = frozenset(".html .htm .xhtml".split())
XML_SUFFIXES = frozenset(".xml .docbook .page".split())

BLOCK = frozenset(
    "p div section article main h1 h2 h3 h4 h5 h6 ul ol dl dd table tbody thead blockquote figure "
    "figcaption center address hr details summary fieldset body html caption "
    # DocBook and Mallard names for the same things
    "para simpara title subtitle itemizedlist orderedlist variablelist listitem informaltable "
    "note tip warning important caution refsect1 refsect2 sect1 sect2 sect3 chapter steps item "
    "terms example synopsis desc refnamediv".split())
TIGHT = frozenset("li tr dt row step term varlistentry member".split())   # no blank line between
PRE = frozenset("pre programlisting screen literallayout listing xmp".split())
CELL = frozenset("td th entry".split())
SKIP = frozenset(
    "head script style nav footer svg form button select template noscript iframe annotation "
    "object map colophon bibliography index indexterm primary secondary info bookinfo articleinfo "
    "remark comment legalnotice".split())
SKIP_ROLE = frozenset("navigation search contentinfo banner menu menubar".split())
# Exact class or id names that mark page furniture in Sphinx, DocBook XSL, Doxygen, gtk-doc,
# Texinfo, rustdoc/mdBook, javadoc, asciidoctor and a few home-grown templates.
SKIP_CLASS = frozenset(
    "related sphinxsidebar sphinxsidebarwrapper footer navheader navfooter navigation headerlink "
    "contents toc toctree-wrapper topic-toc breadcrumbs breadcrumb navbar nav sidebar sidebar-nav "
    "menu linenos linenodiv viewcode-link anchor permalink copyright searchbox prev-next-area "
    "prev-next-bottom bd-sidebar wy-nav-side rst-footer-buttons rst-breadcrumbs indextable "
    "genindextable modindextable navpath headertitle-nav tablist ttc dynheader qindex "
    "shortcuts sidebar-elems src-link srclink out-of-band source-link nav-wrapper menu-bar "
    "navi topnav bottomnav bottomNav topNav subNav skip-nav skipNav navbuttons node_header "
    "titletoc contents-local localtoc globaltoc edit-link table-of-contents summary-letter "
    "printindex index-cp index-fn lyrics-toc edit_in_github toc-header toc-placement tocify "
    "docnav docutils-toc list-of-figures list-of-tables list-of-examples lot sidebar1 sidebar2 "
    "fancy toggle-search headfoot apidocfooter sphx-glr-signature sphx-glr-timing cookie "
    "releaseinfo pubdate versionmodified-nav trail trails prevnext pagination skip-link "
    "visually-hidden sr-only doc-version hidden-print version-selector copybtn mw-editsection "
    "notable-traits hideme test-arrow notable-traits-tooltiptext "
    "hide-from-apropos tocdepth menuline navline mobile-nav crumbs".split())
SKIP_ID = frozenset(
    "toc footer navigation nav navbar sidebar menu searchbox search mobile-nav top-nav nav-path "
    "nav-tree side-nav titlearea main-nav quicklinks leftnav page-footer page-header "
    "preamble-nav column1 panel backlink path header apicontent-toc language module-footer "
    "gtoc intro-nav MSearchSelectWindow MSearchResultsWindow topbar breadcrumbs".split())
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())


class TextExtractor(HTMLParser):
    """Collects (text, tight) blocks; `tight` means no blank line before it."""

    def __init__(self, xml=False):
        super().__init__(convert_charrefs=True)
        self.xml = xml
        self.blocks = []
        self.buffer = []
        self.prefix = ""
        self.tight = False
        self.pre = 0
        self.fragment = 0         # open <div>s of a Doxygen code block (one <div> per line)
        self.skip_tag = None      # page furniture: ignore all until its end tag
        self.skip_depth = 0
        self.block_code = False   # inside a Mallard <code> that is a block of its own
        self.main_tag = None      # the element that holds the page's real content
        self.main_depth = 0
        self.done = False

    def flush(self, tight=False):
        raw = "".join(self.buffer)
        self.buffer = []
        if self.pre:
            text = "\n".join("    " + line.rstrip() if line.strip() else ""
                             for line in raw.expandtabs(8).split("\n")).strip("\n")
        else:
            text = " ".join(raw.split())
            # a row of empty cells leaves only separators
            text = re.sub(r"^(?:\| ?)+|(?: ?\|)+$", "", text).strip()
        if text:
            self.blocks.append((self.prefix + text, self.tight))
            self.prefix = ""
        self.tight = tight

    def is_furniture(self, tag, attrs):
        # DocBook uses <index>, <info> ... for data; HTML has no such elements.
        if tag in SKIP and not (tag == "nav" and self.xml):
            return True
        role, ident = attrs.get("role") or "", attrs.get("id") or ""
        classes = (attrs.get("class") or "").split()
        return (role in SKIP_ROLE or ident in SKIP_ID
                or any(name in SKIP_CLASS for name in classes)) and tag not in ("body", "html")

    def handle_starttag(self, tag, attrs):
        if self.done:
            return
        if self.skip_tag:
            if tag == self.skip_tag:
                self.skip_depth += 1
            return
        attrs = dict(attrs)
        if tag not in VOID and self.is_furniture(tag, attrs):
            self.skip_tag, self.skip_depth = tag, 1
            return
        if self.main_tag:
            self.main_depth += tag == self.main_tag
        elif tag == "main" or attrs.get("role") == "main":
            self.flush()
            self.blocks = []
            self.main_tag, self.main_depth = tag, 1
        classes = (attrs.get("class") or "").split()
        if self.fragment and tag == "div":
            self.fragment += 1
        if tag == "code" and self.xml and ("mime" in attrs or "style" in attrs):
            tag, self.block_code = "pre", True
        if tag in PRE or (tag == "div" and "fragment" in classes):
            if not self.pre:
                self.flush()
            self.pre += 1
            if tag == "div":
                self.fragment = 1
        elif self.pre:
            if tag == "br" or "line" in classes:
                self.buffer.append("\n")
        elif tag == "br":
            self.flush(tight=True)
        elif tag in BLOCK:
            self.flush()
            if tag == "item" and self.xml:
                self.prefix = "- "
        elif tag in TIGHT:
            self.flush(tight=bool(self.blocks) and tag != "dt")
            if tag in ("li", "step", "member"):
                self.prefix = "- "
        elif tag in CELL:
            if self.buffer:
                self.buffer.append(" | ")
        elif "classifier" in classes:                # Sphinx: <strong>x</strong><span>int</span>
            self.buffer.append(" : ")
        elif tag == "img" and attrs.get("class") == "math":
            self.buffer.append(attrs.get("alt") or "")

    def handle_startendtag(self, tag, attrs):
        if tag in VOID or not self.xml:
            self.handle_starttag(tag, attrs)
        elif tag in BLOCK:
            self.flush()

    def handle_endtag(self, tag):
        if self.done:
            return
        if self.skip_tag:
            if tag == self.skip_tag:
                self.skip_depth -= 1
                if not self.skip_depth:
                    self.skip_tag = None
            return
        if tag == "code" and self.block_code:
            tag, self.block_code = "pre", False
        closes_fragment = self.fragment == 1 and tag == "div"
        if self.fragment and tag == "div":
            self.fragment -= 1
        if self.pre and (tag in PRE or closes_fragment):
            if self.pre == 1:
                self.flush()
            self.pre -= 1
        elif not self.pre and tag in BLOCK:
            self.flush()
        elif not self.pre and tag in TIGHT:
            self.flush(tight=tag != "dt")
        if self.main_tag == tag:
            self.main_depth -= 1
            if not self.main_depth:
                self.flush()
                self.done = True

    def handle_data(self, data):
        if not self.skip_tag and not self.done:
            self.buffer.append(data)

    def unknown_decl(self, data):
        if data.startswith("CDATA["):
            self.handle_data(data[6:])


def html_to_text(source, xml=False):
    if xml:      # entities that the document's own DTD declares, such as &kate;
        source = re.sub(r"&([A-Za-z][\w.-]*);", lambda m: m.group(0) if m.group(1) + ";" in html5
                        else m.group(1), source)
    parser = TextExtractor(xml)
    parser.feed(source)
    parser.close()
    parser.flush()
    out = []
    for text, tight in parser.blocks:
        out.append(("\n" if tight else "\n\n") + text)
    # short list items need no blank lines between them
    return re.sub(r"(?m)^(- .{,150})\n\n(?=- )", r"\1\n", "".join(out))


# ----------------------------------------------------------------- all formats

def decode(data):
    """UTF-8 if it is, else what the page declares, else Windows-1252."""
    declared = re.search(rb'(?:charset|encoding)=["\']?([A-Za-z0-9_-]+)', data[:1500])
    for name in ("utf-8", declared.group(1).decode() if declared else "cp1252", "cp1252"):
        try:
            return data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("latin-1")


TYPOGRAPHY = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"',
    "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "--", "\u2015": "--", "\u2212": "-",
    "\u2026": "...", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2002": " ", "\u2003": " ",
    "\u200a": " ", "\ufb01": "fi", "\ufb02": "fl", "\ufb00": "ff", "\ufb03": "ffi", "\ufb04": "ffl",
    "\u2022": "-", "\u00b6": None, "\u00ad": None, "\u200b": None, "\u200c": None, "\u200d": None,
    "\ufeff": None, "\u2060": None, "\u200e": None, "\u200f": None, "\uf0c1": None})
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd]")


def tidy(text):
    text = re.sub(r"_\x08(.)|(.)\x08\2", r"\1\2", text)          # overstrikes of old terminals
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(TYPOGRAPHY)
    text = CONTROL.sub("", unicodedata.normalize("NFC", text))
    # a "line" of this length without spaces is data (base64, minified code), not text
    lines = [line.rstrip() for line in text.split("\n")]
    lines = [line for line in lines if len(line) < 400 or line.count(" ") > len(line) // 40]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


LICENCE_WORDS = re.compile(r"copyright|licen[cs]e|spdx|all rights reserved", re.I)


def drop_licence_header(text):
    """Removes leading comments of a source file that only state a licence."""
    pattern = re.compile(r"\s*(/\*.*?\*/|(?:(?:#|//|;;?;?|--|%+)[^\n]*\n)+)", re.S)
    for _ in range(3):
        match = pattern.match(text)
        if not match or not LICENCE_WORDS.search(match.group(0)) or match.end() > 6000:
            break
        text = text[match.end():].lstrip("\n")
    return text


def suffix_of(path):
    """The suffix that tells the format: 'x.html.en.gz' -> '.html', 'ls.1.gz' -> '.man'."""
    name = path.rsplit("/", 1)[-1]
    for ending in (".gz", ".dz", ".en"):
        name = name.removesuffix(ending)
    if re.search(r"\.info(-\d+)?$", name):
        return ".info"
    if "/man/" in path and re.search(r"\.[1-9][a-z]*$", name):
        return ".man"
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def to_text(path, data, forced=None):
    """(text, is_code) or None; `forced` is a rule's `format`, which overrides the suffix."""
    suffix = suffix_of(path)
    if forced == "sword":
        return (tidy(formats.sword_to_text(data)), False) if suffix == ".bzz" else None
    if path.endswith((".gz", ".dz")):
        data = gzip.decompress(data)
    if b"\x00" in data[:2000] and suffix != ".info":
        return None
    code = suffix in CODE_SUFFIXES
    if forced in ("wml", "fortune"):
        convert = formats.wml_to_text if forced == "wml" else formats.fortune_to_text
        text, code = convert(decode(data)), False
    elif suffix in HTML_SUFFIXES:
        text = html_to_text(decode(data))
    elif suffix in XML_SUFFIXES:
        text = html_to_text(decode(data), xml=True)
    elif suffix == ".pod":
        text = formats.pod_to_text(decode(data))
    elif suffix == ".man":
        text = formats.man_to_text(decode(data))
    elif suffix == ".info":
        text = formats.info_to_text(decode(data))
    elif code:
        text = drop_licence_header(decode(data).lstrip("\ufeff"))
    elif suffix in PLAIN_SUFFIXES or not suffix:
        text = decode(data)
    else:
        return None
    return None if text is None else (tidy(text), code)
