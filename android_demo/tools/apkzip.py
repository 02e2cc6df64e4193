"""Write and read an APK's zip so that the same content gives the same bytes, and files can be mapped.

Nothing is packed: what is large is mapped where it lies, the rest would save 0.2 MB, and packed bytes would depend on the
zlib of the machine. XML alone is called deflated, in blocks of plain bytes, since Robolectric's Android 8 cannot open a stored
one. A file starts at a multiple of `alignment(name)`: 16,384 for libraries, programs and tokenizers, which
are mapped on devices whose pages may have 16 KB, else 4. The gap is the extra field 0xd935, which apksigner keeps.

Source  APPNOTE.TXT of the zip format; apksig's description of its alignment field.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

PAGE = 16384
_TIME = (0, 0x0021)  # 1980-01-01 00:00, the zip format's first


def alignment(name: str) -> int:
    return PAGE if name.endswith((".so", ".pte", "tokenizer.json", "tokenizer_config.json")) else 4


def deflated(data: bytes) -> bytes:
    """Deflate's format, without packing."""
    blocks = [data[i:i + 0xFFFF] for i in range(0, len(data), 0xFFFF)] or [b""]
    return b"".join(struct.pack("<BHH", i == len(blocks), len(block), len(block) ^ 0xFFFF) + block for i, block in enumerate(blocks, 1))


def write(path: Path, entries: dict[str, bytes]) -> None:
    """The manifest first, then by name."""
    directory = b""
    with Path(path).open("wb") as out:
        for name in sorted(entries, key=lambda n: (n != "AndroidManifest.xml", n)):
            data, position, encoded = entries[name], out.tell(), name.encode()
            gap = -(position + 30 + len(encoded) + 6) % alignment(name)
            extra = struct.pack("<HHH", 0xD935, 2 + gap, alignment(name)) + bytes(gap)
            method, content = (8, deflated(data)) if name.endswith(".xml") else (0, data)
            header = struct.pack("<HHHHHIII", 20, 0x800, method, *_TIME, zlib.crc32(data), len(content), len(data))
            out.write(b"PK\3\4" + header + struct.pack("<HH", len(encoded), len(extra)) + encoded + extra + content)
            directory += b"PK\1\2" + struct.pack("<H", 20) + header + struct.pack(
                "<HHHHHII", len(encoded), 0, 0, 0, 0, 0, position) + encoded
        position = out.tell()
        out.write(directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), position, 0))


@dataclass(frozen=True)
class Entry:
    offset: int  # of the data in the file
    size: int  # in bytes
    stored: bool


def read(path: Path) -> dict[str, Entry]:
    """Where every entry's data lies."""
    found = {}
    with Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            found[info.filename] = Entry(info.header_offset + 30 + name + extra, info.file_size, info.compress_type == 0)
    return found
