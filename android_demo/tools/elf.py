"""Read the dynamic section of a 64-bit little-endian ELF file: what it needs, imports, exports, and its segments.

Source  the ELF specification and the LSB's description of symbol versions.
Errors  ValueError for a file that is not such an ELF file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

_LOAD, _DYNAMIC, _TLS, _GNU_STACK, _GNU_RELRO = 1, 2, 7, 0x6474E551, 0x6474E552
_NEEDED, _STRTAB, _SYMTAB, _SONAME, _VERSYM, _VERNEED, _VERNEEDNUM, _TEXTREL = 1, 5, 6, 14, 0x6FFFFFF0, 0x6FFFFFFE, \
    0x6FFFFFFF, 22


@dataclass
class Elf:
    machine: int  # 62 x86-64, 183 AArch64
    soname: str = ""
    needed: list[str] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)  # symbol -> library that its version names, or ""
    weak_imports: set[str] = field(default_factory=set)
    exports: set[str] = field(default_factory=set)
    load_alignments: list[int] = field(default_factory=list)
    has_tls: bool = False
    executable_stack: bool = False
    writable_code: bool = False
    text_relocations: bool = False
    relro: bool = False


def read(path: Path) -> Elf:
    data = Path(path).read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
    machine, = struct.unpack_from("<H", data, 18)
    program, sections = struct.unpack_from("<QQ", data, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from("<HHHH", data, 54)
    elf, loads, dynamic = Elf(machine), [], []
    for i in range(program_count):
        kind, flags, offset, address, _, file_bytes, _, alignment = struct.unpack_from(
            "<IIQQQQQQ", data, program + i * program_size)
        if kind == _LOAD:
            loads.append((address, offset, file_bytes))
            elf.load_alignments.append(alignment)
            elf.writable_code |= flags & 3 == 3
            if (address - offset) % alignment:
                raise ValueError(f"{path}: a segment's address and offset disagree")
        elif kind == _DYNAMIC:
            dynamic = list(struct.iter_unpack("<qQ", data[offset:offset + file_bytes]))
        elif kind == _GNU_STACK:
            elf.executable_stack = bool(flags & 1)
        elf.has_tls |= kind == _TLS
        elf.relro |= kind == _GNU_RELRO

    def at(address: int) -> int:
        for start, offset, length in loads:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError(f"{path}: address {address:#x} is in no segment")

    tags = dict(dynamic)
    strings = at(tags[_STRTAB])

    def text(offset: int) -> str:
        start = strings + offset
        return data[start:data.index(b"\0", start)].decode()

    elf.needed = [text(value) for tag, value in dynamic if tag == _NEEDED]
    elf.soname = text(tags[_SONAME]) if _SONAME in tags else ""
    elf.text_relocations = _TEXTREL in tags
    versions = {}  # number in the version table -> library
    if _VERNEED in tags:
        need = at(tags[_VERNEED])
        for _ in range(tags[_VERNEEDNUM]):
            _, count, file, first, after = struct.unpack_from("<HHIII", data, need)
            entry = need + first
            for _ in range(count):
                _, _, number, _, step = struct.unpack_from("<IHHII", data, entry)
                versions[number] = text(file)
                entry += step
            need += after
    # The dynamic section does not say how many symbols there are; the section headers do.
    for i in range(section_count):
        _, kind, _, _, offset, size, _, _, _, entry_size = struct.unpack_from("<IIQQQQIIQQ", data, sections + i * section_size)
        if kind == 11:  # SHT_DYNSYM
            for k in range(1, size // entry_size):
                name, info, _, section, _, _ = struct.unpack_from("<IBBHQQ", data, offset + k * entry_size)
                if section:
                    elf.exports.add(text(name))
                    continue
                number = struct.unpack_from("<H", data, at(tags[_VERSYM]) + 2 * k)[0] & 0x7FFF if _VERSYM in tags else 0
                elf.imports[text(name)] = versions.get(number, "")
                if info >> 4 == 2:
                    elf.weak_imports.add(text(name))
    return elf
