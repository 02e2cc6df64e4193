"""Push blockffn-run, a model and its libraries to a phone, run the benchmark there, and bring the JSON back.

    .venv/bin/python android_demo/adb_bench.py out/blockffn-22m-docs/model-int8.pte [--draft HEAD.pte] [--experts all | --device gpu] [-o bench.json] [-- --reps 5]

Needs `adb` with one device (or --serial) and what `.venv/bin/python android_demo/tools/native.py` built. With --app the model goes into
the demo app's folder instead, where its list of models shows it. What follows -- goes to blockffn-run.

--experts all is the dense side of the comparison: the same file, every expert of it read and computed, the same text to the
bit. It is not another model: a dense one of this size would have other weights, and other text.

--device gpu runs on the phone's GPU (Vulkan), auto on what is faster there; "device" in the JSON's "bench" says which it was, and
why it is the CPU where it is. What the GPU's driver compiled is kept in the phone's folder. All experts are read on the CPU alone.

The last line on stdout is a JSON object. Errors: one sentence on stderr, exit status 1; 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REMOTE = "/data/local/tmp/blockffn"
APP_MODELS = "/sdcard/Android/data/org.blockffn.demo/files/models"


def adb(serial: str | None, *words: str) -> str:
    command = ["adb", *(["-s", serial] if serial else []), *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError("adb is missing: apt install adb, or Android's platform tools, and enable USB debugging on the phone") from None
    if done.returncode != 0:
        raise ValueError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def files_of(program: Path, draft: Path | None, tokenizer: Path) -> list[tuple[Path, str]]:
    """What goes to the phone, and under which name."""
    files = [(program, "model.pte"), (tokenizer, "tokenizer.json")]
    config = tokenizer.with_name("tokenizer_config.json")
    if config.exists():
        files.append((config, config.name))
    if draft:
        files.append((draft, "draft.pte"))
    for path, _ in files:
        if not path.is_file():
            raise ValueError(f"{path} does not exist; name the program that export/to_executorch.py wrote")
    return files


def bench(args: argparse.Namespace) -> dict:
    files = files_of(args.program, args.draft, args.tokenizer or args.program.with_name("tokenizer.json"))
    if args.app:
        folder = f"{APP_MODELS}/{args.program.stem}"
        adb(args.serial, "shell", f"mkdir -p '{folder}'")
        for path, name in files:
            adb(args.serial, "push", path, f"{folder}/{name}")
        return {"pushed_to": folder, "files": [name for _, name in files]}
    abi = adb(args.serial, "shell", "getprop ro.product.cpu.abi").strip()
    program = args.native / "bin" / abi / "blockffn-run"
    if not program.exists():
        raise ValueError(f"there is no {program}: run `.venv/bin/python android_demo/tools/native.py`" + ("" if abi in ("arm64-v8a", "x86_64")
                         else f"; but this device is {abi}, and only arm64-v8a and x86_64 are supported"))
    adb(args.serial, "shell", f"mkdir -p {REMOTE}")
    for path in [program, *sorted((args.native / "jniLibs" / abi).glob("lib[ef]*.so"))]:
        adb(args.serial, "push", path, f"{REMOTE}/{path.name}")
    for path, name in files:
        adb(args.serial, "push", path, f"{REMOTE}/{name}")
    draft = "--draft draft.pte" if args.draft else ""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in args.rest)
    device = f"BLOCKFFN_DEVICE={args.device} BLOCKFFN_CACHE_DIR={REMOTE}/cache"
    out = adb(args.serial, "shell", f"cd {REMOTE} && chmod 755 blockffn-run && LD_LIBRARY_PATH=. {device} ./blockffn-run model.pte {draft} --experts {args.experts} --bench {quoted}")
    try:
        result = json.loads(out.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise ValueError(f"blockffn-run printed no JSON: {out[-1000:]}") from None
    device = {key: adb(args.serial, "shell", f"getprop {name}").strip() for key, name in
              (("device", "ro.product.model"), ("soc", "ro.soc.model"), ("android", "ro.build.version.release"))}
    return device | {"abi": abi, "program": args.program.name, "experts": args.experts, "bench": result}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help=".pte written by export/to_executorch.py")
    parser.add_argument("--draft", type=Path, help="draft head made for it")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json (default: beside the program)")
    parser.add_argument("--experts", choices=("active", "all"), default="active",
                        help="active: those that the router chose (default); all: every expert, as a dense model of equal size reads")
    parser.add_argument("--device", choices=("cpu", "gpu", "auto"), default="cpu", help="what computes (default: cpu)")
    parser.add_argument("--serial", help="of the device, where several are connected")
    parser.add_argument("--app", action="store_true", help="push the model for the demo app")
    parser.add_argument("--native", type=Path, default=ROOT / "build/android", help="folder of native.py")
    parser.add_argument("-o", "--out", type=Path, help="also write the JSON here")
    words = sys.argv[1:]
    own, rest = (words[:words.index("--")], words[words.index("--") + 1:]) if "--" in words else (words, [])
    args = parser.parse_args(own)
    args.rest = rest
    if args.experts == "all" and args.device != "cpu":
        parser.error("--experts all is computed on the CPU alone: leave --device out")
    try:
        result = bench(args)
        if args.out:
            part = args.out.with_name(args.out.name + ".part")
            part.write_text(json.dumps(result, indent=1) + "\n")
            os.replace(part, args.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
