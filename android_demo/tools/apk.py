"""Build the signed APK of the demo, without the Android SDK or NDK.

    .venv/bin/python android_demo/tools/apk.py --program out/blockffn-22m-docs/model-int8.pte --draft out/blockffn-22m-docs/draft-int8.pte

The program's checkpoint directory gives the tokenizer (--checkpoint). The same inputs give the same bytes, in any folder
and on any machine that has the key: by default the demo's public debug key, so an APK for a store wants --key and its own.
Prints a table of sizes; the last line is a JSON object.

Errors  one sentence on stderr and exit status 1; nothing is left at the output path.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import apkzip
import downloads
import native

HERE = native.HERE
PACKAGE, VERSION_CODE, VERSION = "org.blockffn.demo", 1, "0.1.0"
MIN_SDK, TARGET_SDK = 26, 36
KOTLIN = ["org.jetbrains.kotlin:kotlin-compiler-embeddable", "org.jetbrains.kotlin:kotlin-stdlib", "org.jetbrains.kotlin:kotlin-script-runtime",
          "org.jetbrains.kotlin:kotlin-reflect", "org.jetbrains.kotlin:kotlin-daemon-embeddable", "org.jetbrains.intellij.deps:trove4j",
          "org.jetbrains.kotlinx:kotlinx-coroutines-core-jvm", "org.jetbrains:annotations"]
PROGUARD = ["com.guardsquare:proguard-base", "com.guardsquare:proguard-core", "org.jetbrains.kotlin:kotlin-metadata-jvm",
            "org.jetbrains.kotlin:kotlin-stdlib", "com.google.code.gson:gson", "org.apache.logging.log4j:log4j-api",
            "org.apache.logging.log4j:log4j-core", "org.json:json"]


def jar(name: str) -> Path:
    return downloads.package(name + ":").path


def jars(names: list[str]) -> str:
    return os.pathsep.join(str(jar(name)) for name in names)


def android_jar() -> Path:
    """Android 15's classes and resources: Robolectric's instrumented copy, since the tests need that one anyway."""
    return downloads.package("org.robolectric:android-all-instrumented:15").path


def empty_interfaces(work: Path) -> Path:
    """Those that instrumented classes implement, without their methods, so that a compiler does not ask for them."""
    sources = []
    for name in ("InstrumentedInterface", "ShadowedObject"):
        sources.append(work / "interfaces" / f"{name}.java")
        sources[-1].parent.mkdir(exist_ok=True)
        sources[-1].write_text(f"package org.robolectric.internal.bytecode; public interface {name} {{}}\n")
    native.run([native.java_home() / "bin" / "javac", "--release", "8", "-Xlint:-options", "-d", work / "interfaces", *sources], "javac")
    return work / "interfaces"


def java(*arguments, what: str, heap: str = "1g") -> str:
    return native.run([native.java_home() / "bin" / "java", f"-Xmx{heap}", "-XX:+UseSerialGC", *arguments], what)


def kotlinc(sources: list[Path], classpath: list[Path], out: Path) -> None:
    """Java 8 class files without invokedynamic, which dx would turn into instructions that API 26 lacks or runs slowly."""
    java("-cp", jars(KOTLIN), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror",
         "-jdk-home", native.java_home(), "-Xjdk-release=1.8", "-jvm-target", "1.8", "-Xlambdas=class", "-Xsam-conversions=class",
         "-Xstring-concat=inline", "-classpath", os.pathsep.join(map(str, classpath)), "-d", out, *sources, what="kotlinc")


def aapt2() -> Path:
    """apktool's, a static program; Debian's is too old for API 35."""
    path = downloads.cache() / "unpacked" / (jar("org.apktool:apktool-lib").stem + "-aapt2")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(jar("org.apktool:apktool-lib")) as archive:
            part = path.with_suffix(".part")
            part.write_bytes(archive.read("prebuilt/linux/aapt2"))
        part.chmod(0o755)
        part.rename(path)
    return path


def link_resources(work: Path) -> Path:
    """Compiled resources and manifest, as an APK without code; R.java in work/gen."""
    # Gradle takes the package from its build file, aapt2 from the manifest.
    manifest = (HERE / "app/src/main/AndroidManifest.xml").read_text()
    (work / "AndroidManifest.xml").write_text(manifest.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1))
    native.run([aapt2(), "compile", "--dir", HERE / "app/src/main/res", "-o", work / "res.zip"], "aapt2 compile")
    native.run([aapt2(), "link", "-o", work / "base.apk", "-I", android_jar(), "--manifest", work / "AndroidManifest.xml",
                "--java", work / "gen", "--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK),
                "--version-code", str(VERSION_CODE), "--version-name", VERSION, work / "res.zip"], "aapt2 link")
    return work / "base.apk"


def compile_classes(work: Path) -> Path:
    """The app's and the library's classes."""
    classes = work / "classes"
    classes.mkdir()
    native.run([native.java_home() / "bin" / "javac", "-nowarn", "-Xlint:-options", "--release", "8", "-d", classes,
                *(work / "gen").rglob("*.java")], "javac")
    sources = sorted([*(HERE / "blockffn/src/main/kotlin").rglob("*.kt"), *(HERE / "app/src/main/kotlin").rglob("*.kt")])
    kotlinc(sources, [jar("org.jetbrains.kotlin:kotlin-stdlib"), android_jar(), empty_interfaces(work), classes], classes)
    return classes


def make_dex(work: Path, classes: Path) -> bytes:
    """Shrink with ProGuard, translate with dx."""
    shrunk = work / "shrunk.jar"
    java("-cp", jars(PROGUARD), "proguard.ProGuard", f"@{HERE / 'app/shrink.pro'}", "-injars", classes, "-injars",
         f"{jar('org.jetbrains.kotlin:kotlin-stdlib')}(!META-INF/**,!**.kotlin_builtins,!**.kotlin_module,**.class)",
         "-outjars", shrunk, "-libraryjars", f"{android_jar()}(!**.kotlin_module,**.class)",
         "-libraryjars", work / "interfaces", "-libraryjars", f"{native.java_home()}/jmods/java.base.jmod(!**.jar;!module-info.class)", what="ProGuard", heap="2g")
    java("-cp", jar("com.jakewharton.android.repackaged:dalvik-dx"), "com.android.dx.command.Main", "--dex", f"--min-sdk-version={MIN_SDK}",
         f"--output={work / 'classes.dex'}", shrunk, what="dx")
    dex = (work / "classes.dex").read_bytes()
    if call_sites(dex):
        raise ValueError("classes.dex holds invoke-custom instructions: some class uses invokedynamic, see kotlinc() above")
    return dex


def call_sites(dex: bytes) -> int:
    """How many invoke-custom call sites a dex file has, from its map."""
    at, = struct.unpack_from("<I", dex, 52)
    count, = struct.unpack_from("<I", dex, at)
    items = [struct.unpack_from("<HHII", dex, at + 4 + 12 * i) for i in range(count)]
    return sum(size for kind, _, size, _ in items if kind == 7)


def model_assets(program: Path, draft: Path | None, checkpoint: Path, title: str) -> tuple[dict[str, bytes], list[dict]]:
    """Files below assets/models/, and what assets/models.json says of them."""
    folder = f"assets/models/{checkpoint.name}/"
    files = [program, *([draft] if draft else []), checkpoint / "tokenizer.json"]
    config = checkpoint / "tokenizer_config.json"
    if config.exists():
        files.append(config)
    description = {"id": checkpoint.name, "title": title, "program": program.name, "tokenizer_config": config.exists()}
    if draft:
        description["draft"] = draft.name
    return {folder + file.name: file.read_bytes() for file in files}, [description]


def sign(unsigned: Path, signed: Path, key: Path, password: str) -> None:
    native.run(["apksigner", "sign", "--ks", key, "--ks-type", "PKCS12", "--ks-pass", "pass:" + password, "--min-sdk-version", str(MIN_SDK),
                "--v1-signing-enabled", "false", "--v2-signing-enabled", "true", "--v3-signing-enabled", "true",
                "--v4-signing-enabled", "false", "--out", signed, unsigned], "apksigner")


def require(args: argparse.Namespace) -> None:
    """What would else be missed after minutes."""
    if shutil.which("apksigner") is None:
        raise ValueError("apksigner is missing: apt install apksigner")
    native.java_home()
    native.executorch_wheel()
    for path in (args.program, args.draft, args.checkpoint / "tokenizer.json", args.key):
        if path and not path.is_file():
            raise ValueError(f"there is no {path}: `make apk` writes the programs of the shipped checkpoint, export/to_executorch.py those of others")


def build(args: argparse.Namespace) -> dict:
    require(args)
    downloads.fetch(downloads.packages("native", "apk"))
    out = args.out.resolve()
    with tempfile.TemporaryDirectory(prefix="blockffn-apk-") as folder, ThreadPoolExecutor(2) as pool:
        work = Path(folder)
        libraries = [pool.submit(native.build_android, abi, args.native) for abi in native.ABIS]
        base = link_resources(work)
        dex = make_dex(work, compile_classes(work))
        for library in libraries:
            library.result()
        entries, models = model_assets(args.program, args.draft, args.checkpoint, args.title)
        with zipfile.ZipFile(base) as archive:
            entries |= {name: archive.read(name) for name in archive.namelist()}
        entries |= {"classes.dex": dex, "assets/models.json": json.dumps(models, indent=1).encode(),
                    "assets/NOTICES.txt": (HERE / "NOTICES.txt").read_bytes()}
        for abi in native.ABIS:
            for library in sorted((args.native / "jniLibs" / abi).glob("*.so")):
                entries[f"lib/{abi}/{library.name}"] = library.read_bytes()
        apkzip.write(work / "unsigned.apk", entries)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part")
        try:
            sign(work / "unsigned.apk", part, args.key, args.key_password)
            part.rename(out)
        finally:
            part.unlink(missing_ok=True)
        if args.assets:
            for name, content in entries.items():
                if name.startswith("assets/"):
                    target = args.assets / name[len("assets/"):]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
        if args.classes:
            shutil.rmtree(args.classes, ignore_errors=True)
            shutil.copytree(work / "classes", args.classes)
    return report(out)


def report(apk: Path) -> dict:
    """Sizes in bytes per part, and the file's sha256."""
    parts: dict[str, int] = {}
    for name, entry in apkzip.read(apk).items():
        part = "/".join(name.split("/")[:2]) if name.startswith("lib/") else "models" if name.startswith("assets/models/") else \
            "resources" if name.startswith("res") or name.endswith(".xml") else "classes" if name.endswith(".dex") else "other"
        parts[part] = parts.get(part, 0) + entry.size
    return {"apk": str(apk), "bytes": apk.stat().st_size, "sha256": hashlib.sha256(apk.read_bytes()).hexdigest(),
            "part_bytes": dict(sorted(parts.items()))}


def parse(words: list | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help=".pte written by export/to_executorch.py")
    parser.add_argument("--draft", type=Path, help="draft head made for it, written by export/to_executorch.py HEAD --target CKPT")
    parser.add_argument("--checkpoint", type=Path, default=native.ROOT / "checkpoints/blockffn-22m-docs", help="for the tokenizer")
    parser.add_argument("--title", default="BlockFFN 22M, manuals (int8)")
    parser.add_argument("--key", type=Path, default=HERE / "debug.p12", help="PKCS12 key store with one key")
    parser.add_argument("--key-password", default="android")
    parser.add_argument("--native", type=Path, default=native.ROOT / "build/android", help="folder of native.py")
    parser.add_argument("--classes", type=Path, help="also leave the class files here, for the tests")
    parser.add_argument("--assets", type=Path, help="also unpack the assets here, for the Gradle project")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "dist/blockffn-demo.apk")
    return parser.parse_args(None if words is None else [str(word) for word in words])


def main() -> int:
    args = parse()
    try:
        summary = build(args)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, size in summary["part_bytes"].items():
        print(f"{size:>12,}  {name}")
    print(f"{summary['bytes']:>12,}  {summary['apk']}")
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
