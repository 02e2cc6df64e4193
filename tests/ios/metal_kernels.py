"""The Metal kernels of the GPU as one C++ library for the stand-in of Metal (metal_stand_in/), by tests/gpu/metal_on_cpu.h."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.gpu.test_metal import METAL, as_cpp
from tests.ios.conftest import ROOT

THREADS, TOKENS = 64, (1, 2, 4, 8)
FIND = """
struct Row { const char *source, *name, *tokens; uint32_t buffers; int (*run)(void**, const uint32_t*); };
static const Row rows[] = {
%s};
extern "C" void* find_kernel(const char* source, const char* name, const char* threads, const char* tokens, uint32_t* buffers) {
  if (std::strcmp(threads, "%du") != 0) return nullptr;
  for (const Row& r : rows)
    if (std::strcmp(r.name, name) == 0 && std::strcmp(r.tokens, tokens) == 0 && std::strcmp(r.source, source) == 0) {
      *buffers = r.buffers;
      return reinterpret_cast<void*>(r.run);
    }
  return nullptr;
}
"""


def library(folder: Path) -> Path:
    """Compiles all kernels, for chunks of every size; again only if one has changed."""
    sources = {path.stem: path.read_text() for path in sorted(METAL.glob("*.metal"))
               if path.stem != "bandwidth"}  # a benchmark's
    parts, rows = [f'#include "{ROOT}/tests/gpu/metal_on_cpu.h"\n'], []
    for name, text in sources.items():
        buffers = sum(1 << int(n) for n in set(re.findall(r"\[\[buffer\((\d)\)\]\]", text)))
        parts.append(f"static const char source_{name}[] = {json.dumps(text)};\n")
        for tokens in TOKENS if "BLOCKFFN_TOKENS" in text else TOKENS[:1]:
            parts.append(as_cpp(name, THREADS, tokens))
            space = f"{name}_{THREADS}_{tokens}"
            rows.append(f'  {{source_{name}, "{name}", "{tokens}u", {buffers}u, {space}::run_{space}}},\n')
    text = "".join(parts) + FIND % ("".join(rows), THREADS)
    made = folder / f"metal-{hashlib.sha256((text + (ROOT / 'tests/gpu/metal_on_cpu.h').read_text()).encode()).hexdigest()[:16]}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source, part = made.with_suffix(".cc"), made.with_suffix(".part")
        source.write_text(text)
        subprocess.run([shutil.which("g++") or "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-fsingle-precision-constant", "-w",
                        "-shared", "-fPIC", "-static-libstdc++", "-static-libgcc", source, "-o", part], check=True)
        part.rename(made)
        source.unlink()
    return made
