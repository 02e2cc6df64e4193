"""Links of every page lead somewhere: to a file of the repository, and to a heading where they name one."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pages() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        listed = [path.relative_to(ROOT) for path in ROOT.rglob("*.md") if not {".venv", "build", "out"} & set(path.relative_to(ROOT).parts)]
    return [ROOT / name for name in listed]


def prose(page: Path) -> str:
    """The page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", " ", code[0]), text)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ +(.*?) *$", prose(page), re.MULTILINE)}


def broken(page: Path) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            found.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(path):
            found.append(f"{target}: no such heading")
    return found


def test_pages_are_found():
    assert ROOT / "README.md" in pages() and len(pages()) > 10


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert not broken(page)


def test_the_check_sees_broken_links(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# What it is\n[a](page.md) [b](#what-it-is) [c](none.md) [d](page.md#nothing) `[e](x)` [f](https://example.org/x)\n")
    assert broken(page) == ["none.md: no such file", "page.md#nothing: no such heading"]


def test_files_named_in_tables_exist():
    """The first cell of a row of a table "| file |": names of files of that folder."""
    missing = []
    for page in pages():
        for block in re.findall(r"^\| *[Ff]iles? *\|.*?(?:\n(?!\|)|\Z)", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            for row in block.splitlines()[2:]:
                names = re.findall(r"`([\w./-]+\.(?:py|cc|h|yaml|kt|swift|json))`", row.split("|")[1])
                missing += [f"{page.relative_to(ROOT)}: {name}" for name in names
                            if not (page.parent / name).exists() and not (ROOT / name).exists() and not any(page.parent.rglob(name))]
    assert not missing
