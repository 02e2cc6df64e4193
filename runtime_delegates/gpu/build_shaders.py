"""Compiles shaders/*.comp to SPIR-V in shaders.inc, the C++ arrays that the library embeds, and to Metal in metal/*.metal.

    python runtime_delegates/gpu/build_shaders.py [--check]

Needs Debian 12's glslc 2023.2, spirv-tools 2023.1 and spirv-cross (`apt install glslc spirv-tools spirv-cross`): other
versions may give other, equally valid bytes. --check writes nothing and fails if a file is not what the sources give.
Every module is optimized, stripped and validated for Vulkan 1.1. Exit 0 done, 1 failed or different, 2 bad arguments.

Metal: the same passes, one kernel a file, named like it, and all of them in metal.inc, which the library embeds.
Buffer 0 holds the push constants and buffer b + 1 is binding b. The two specialization constants are macros,
BLOCKFFN_THREADS (64) and BLOCKFFN_TOKENS (1).
"""

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUANTS = ("fp32", "int8", "int4")
QUANTIZED = ("linear", "expert_up", "expert_down", "embedding")  # one module per precision
HALF = ("linear", "expert_up", "expert_down")  # and one each that multiplies in float16
GLSLC = ("glslc", "--target-env=vulkan1.1", "-O", "-Werror", "-fshader-stage=compute")
SPIRV_CROSS = ("spirv-cross", "--msl", "--msl-version", "20200", "--msl-force-native-arrays", "--msl-decoration-binding")


def modules() -> list[tuple[str, Path, tuple[str, ...]]]:
    """Name, source and macros of every module."""
    out = []
    for source in sorted((HERE / "shaders").glob("*.comp")):
        if source.stem in QUANTIZED:
            out += [(f"{source.stem}_{q}", source, (f"-DQUANT={i}",)) for i, q in enumerate(QUANTS)]
            if source.stem in HALF:
                out += [(f"{source.stem}_{q}_fp16", source, (f"-DQUANT={i}", "-DFP16=1")) for i, q in enumerate(QUANTS)]
        else:
            out.append((source.stem, source, ()))
    return out


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def compile_module(source: Path, macros: tuple[str, ...], directory: Path) -> bytes:
    """The module's SPIR-V; the compiler's message if it fails."""
    spirv = directory / "module.spv"
    for command in (
        [*GLSLC, *macros, str(source), "-o", str(spirv)],
        ["spirv-opt", "--strip-debug", str(spirv), "-o", str(spirv)],
        ["spirv-val", "--target-env", "vulkan1.1", str(spirv)],
    ):
        run(command)
    return spirv.read_bytes()


def shift_bindings(spirv: bytes) -> bytes:
    """Every binding plus one: buffer 0 of a Metal kernel holds the push constants."""
    op_decorate, binding = 71, 33
    words = list(struct.unpack(f"<{len(spirv) // 4}I", spirv))
    at = 5
    while at < len(words):
        if words[at] & 0xFFFF == op_decorate and words[at + 2] == binding:
            words[at + 3] += 1
        at += words[at] >> 16
    return struct.pack(f"<{len(words)}I", *words)


def to_metal(name: str, source: Path, macros: tuple[str, ...], directory: Path) -> str:
    """The module as Metal source, with names, without helpers that it does not call."""
    spirv = directory / "metal.spv"
    run([*GLSLC, "-g", *macros, str(source), "-o", str(spirv)])
    spirv.write_bytes(shift_bindings(spirv.read_bytes()))
    text = run([*SPIRV_CROSS, "--rename-entry-point", "main", name, "comp", str(spirv)])
    # Constants that are no array's size come as function constants; here all are macros.
    text = re.sub(
        r"constant uint (\w+)_tmp \[\[function_constant\((\d)\)\]\];\nconstant uint \1 = .*? : (\d+u);",
        lambda m: f"#ifndef SPIRV_CROSS_CONSTANT_ID_{m[2]}\n#define SPIRV_CROSS_CONSTANT_ID_{m[2]} {m[3]}\n#endif\n"
        f"constant uint {m[1]} = SPIRV_CROSS_CONSTANT_ID_{m[2]};",
        text,
    )
    text = text.replace("SPIRV_CROSS_CONSTANT_ID_0 1u", "SPIRV_CROSS_CONSTANT_ID_0 64u")
    text = text.replace("SPIRV_CROSS_CONSTANT_ID_0", "BLOCKFFN_THREADS").replace("SPIRV_CROSS_CONSTANT_ID_1", "BLOCKFFN_TOKENS")
    for helper in re.findall(r"(?m)^template<.*\n(?:.*\n)*?^}\n\n", text):
        if text.count(re.search(r"(\w+)\(", helper.split("\n")[1])[1]) == 1:
            text = text.replace(helper, "")
    return f"// Written by build_shaders.py from shaders/{source.name}; do not edit. Compile without fast math.\n{text}"


def render() -> tuple[dict[Path, str], dict[str, int]]:
    """The text of shaders.inc and of every Metal file, and the bytes of every module."""
    files = {}
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
            files[HERE / "metal" / f"{name}.metal"] = to_metal(name, source, macros, Path(directory))
    lines += ["", "constexpr Module kModules[] = {"]
    lines += [f'    {{"{name}", k_{name}, sizeof k_{name}}},' for name in sizes]
    lines += ["};", ""]
    files[HERE / "shaders.inc"] = "\n".join(lines)
    sources = [f'    {{"{path.stem}", R"metal({text})metal"}},\n' for path, text in files.items()
               if path.suffix == ".metal" and path.stem != "bandwidth"]  # which is a benchmark's
    files[HERE / "metal.inc"] = f"{lines[0]}\n\nconstexpr Source kSources[] = {{\n{''.join(sources)}}};\n"
    return files, sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare shaders.inc with what the sources give")
    args = parser.parse_args()
    try:
        files, sizes = render()
    except (RuntimeError, OSError) as error:
        print(f"{error}\nNeeded: apt install glslc spirv-tools spirv-cross", file=sys.stderr)
        return 1
    stale = sorted(set((HERE / "metal").glob("*.metal")) - set(files))
    if args.check:
        different = [p.name for p, text in files.items() if not p.is_file() or p.read_text() != text]
        different += [p.name for p in stale]
        print(json.dumps({"same": not different, "different": different, "modules": len(sizes)}))
        return 0 if not different else 1
    (HERE / "metal").mkdir(exist_ok=True)
    for path, text in files.items():
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)
    for path in stale:
        path.unlink()
    print(json.dumps({"modules": len(sizes), "spirv_bytes": sum(sizes.values()), "metal_files": len(files) - 2}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
