"""Writes the letters and numbers of runtime_delegates/runner/tokenizer as the tokenizers library sees them.

    python -m tests.runner.unicode_tables

Run it after an upgrade of `tokenizers`; test_native_tokenizer.py says when the tables are out of date.
"""

from pathlib import Path

from tokenizers import Regex, pre_tokenizers

FOLDER = Path(__file__).resolve().parents[2] / "runtime_delegates/runner/tokenizer"
TABLES = {"letters": r"\p{L}", "numbers": r"\p{N}"}


def members(pattern: str) -> list[int]:
    """Code points that the pattern matches, ascending; surrogates are no characters."""
    split, found = pre_tokenizers.Split(Regex(f"{pattern}+"), "removed"), []
    for block in range(0, 0x110000, 4096):
        codes = [c for c in range(block, block + 4096) if not 0xD800 <= c < 0xE000]
        text = "".join(map(chr, codes))
        others = {c for piece, _ in (split.pre_tokenize_str(text) if text else []) for c in piece}
        found += [c for c in codes if chr(c) not in others]
    return found


def table(codes: list[int]) -> str:
    """C++ initializers {first, last} of the runs, lines of at most 120 characters."""
    runs: list[list[int]] = []
    for c in codes:
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    lines = [""]
    for first, last in runs:
        item = f"{{0x{first:X}, 0x{last:X}}},"
        if len(lines[-1]) + len(item) + 1 > 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + item
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, pattern in TABLES.items():
        (FOLDER / f"unicode_{name}.inc").write_text(table(members(pattern)))
