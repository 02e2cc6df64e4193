"""What this machine runs programs with: the library, its kernels, the processor, the GPU.

    python -m runtime_delegates.doctor

Lines for people on stdout, then one JSON object as the last line. Exit status 1 if the library cannot be
used, with a sentence on stderr. BLOCKFFN_KERNELS=NAME in the environment forces kernels by name.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

from runtime_delegates.loader import load_backend
from runtime_delegates.logs import quiet_log

# Those that some kernel may use, in the kernel's spelling.
FEATURES = (
    "avx2 fma f16c avx_vnni avx512f avx512bw avx512dq avx512vl avx512_vnni amx_int8 "
    "asimd asimdhp asimddp i8mm bf16 sve sve2 svei8mm sme"
).split()


def cpu_features(cpuinfo: str) -> list[str]:
    """Those of FEATURES that the first processor of /proc/cpuinfo lists."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return [f for f in FEATURES if f in value.split()]
    return []


def report() -> dict:
    with quiet_log():
        backend = load_backend()
    cpuinfo = Path("/proc/cpuinfo")
    return {
        "library": str(backend.path),
        "executorch": importlib.metadata.version("executorch"),
        "kernels": backend.kernels,
        "variants": backend.variants,
        "threads": backend.default_threads,
        "gpu": backend.gpu,
        "machine": platform.machine(),
        "cpu_features": cpu_features(cpuinfo.read_text()) if cpuinfo.is_file() else [],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    try:
        found = report()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    variants = ", ".join(name if ok else f"{name} (not on this processor)" for name, ok in found["variants"].items())
    print(f"library     {found['library']}")
    print(f"executorch  {found['executorch']}")
    print(f"kernels     {found['kernels']}, out of {variants}")
    print(f"threads     {found['threads']} by default")
    print(f"gpu         {found['gpu']}")
    print(f"processor   {found['machine']}: {' '.join(found['cpu_features'])}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
