"""Compiles shaders/*.comp to SPIR-V and writes shaders.inc, the C++ arrays that the library embeds.

    python runtime_delegates/gpu/build_shaders.py [--check]

Needs Debian 12's glslc 2023.2 and spirv-tools 2023.1 (`apt install glslc spirv-tools`): other versions may give other,
equally valid bytes. --check writes nothing and fails if shaders.inc is not what the sources give. Every module is
optimized, stripped and validated for Vulkan 1.1. Exit 0 done, 1 failed or different, 2 bad arguments.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUANTS = ("fp32", "int8", "int4")
QUANTIZED = ("linear", "router", "expert_up", "expert_down", "embedding")  # one module per precision
GLSLC = ("glslc", "--target-env=vulkan1.1", "-O", "-Werror", "-fshader-stage=compute")


def modules() -> list[tuple[str, Path, tuple[str, ...]]]:
    """Name, source and macros of every module."""
    out = []
    for source in sorted((HERE / "shaders").glob("*.comp")):
        if source.stem in QUANTIZED:
            quants = [q for q in QUANTS if (source.stem, q) != ("router", "int4")]  # routers keep 8 bits
            out += [(f"{source.stem}_{q}", source, (f"-DQUANT={i}",)) for i, q in enumerate(quants)]
        else:
            out.append((source.stem, source, ()))
    return out


def compile_module(source: Path, macros: tuple[str, ...], directory: Path) -> bytes:
    """The module's SPIR-V; the compiler's message if it fails."""
    spirv = directory / "module.spv"
    for command in (
        [*GLSLC, *macros, str(source), "-o", str(spirv)],
        ["spirv-opt", "--strip-debug", str(spirv), "-o", str(spirv)],
        ["spirv-val", "--target-env", "vulkan1.1", str(spirv)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return spirv.read_bytes()


def render() -> tuple[str, dict[str, int]]:
    """The text of shaders.inc and the bytes of every module."""
    lines = ["// Written by build_shaders.py from shaders/*.comp; do not edit.", ""]
    sizes = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, source, macros in modules():
            data = compile_module(source, macros, Path(directory))
            sizes[name] = len(data)
            words = [f"0x{int.from_bytes(data[i : i + 4], 'little'):x}" for i in range(0, len(data), 4)]
            lines.append(f"constexpr uint32_t k_{name}[] = {{")
            lines += [" " + ",".join(words[i : i + 24]) + "," for i in range(0, len(words), 24)]
            lines.append("};")
    lines += ["", "constexpr Module kModules[] = {"]
    lines += [f'    {{"{name}", k_{name}, sizeof k_{name}}},' for name in sizes]
    lines += ["};", ""]
    return "\n".join(lines), sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare shaders.inc with what the sources give")
    args = parser.parse_args()
    target = HERE / "shaders.inc"
    try:
        text, sizes = render()
    except (RuntimeError, OSError) as error:
        print(f"{error}\nNeeded: apt install glslc spirv-tools", file=sys.stderr)
        return 1
    if args.check:
        same = target.is_file() and target.read_text() == text
        print(json.dumps({"same": same, "modules": len(sizes)}))
        return 0 if same else 1
    part = target.with_suffix(".part")
    part.write_text(text)
    part.replace(target)
    print(json.dumps({"modules": len(sizes), "spirv_bytes": sum(sizes.values())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
