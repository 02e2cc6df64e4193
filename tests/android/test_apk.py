"""The signed APK: what Android would refuse, or what would make it slow, is looked for here."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import apk as builder
import apkzip
import downloads
import native
import pytest
from shipped import CHECKPOINT

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def entries(apk):
    return apkzip.read(apk["apk"])


def test_signed_with_schemes_2_and_3(apk):
    out = native.run(["apksigner", "verify", "--verbose", "--min-sdk-version", "26", apk["apk"]], "apksigner verify")
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in out and "v3 scheme (APK Signature Scheme v3): true" in out
    assert "WARNING" not in out


def test_a_changed_apk_does_not_verify(apk, entries, tmp_path):
    data = bytearray(open(apk["apk"], "rb").read())
    data[entries["classes.dex"].offset + 100] ^= 1
    (tmp_path / "changed.apk").write_bytes(data)
    with pytest.raises(ValueError, match="DOES NOT VERIFY|digest"):
        native.run(["apksigner", "verify", tmp_path / "changed.apk"], "apksigner verify")


def test_what_is_mapped_is_stored_at_pages(entries):
    mapped = [name for name in entries if name.endswith((".so", ".pte", "tokenizer.json"))]
    assert len(mapped) >= 8
    for name in mapped:
        assert entries[name].stored and entries[name].offset % 16384 == 0, name
    assert entries["resources.arsc"].stored and all(entry.offset % 4 == 0 for entry in entries.values())  # Android 11 and later insist


def test_xml_is_readable_and_not_packed(tmp_path):
    for size in (0, 1, 0xFFFF, 0x10000, 200_000):
        content = bytes(i * 7 % 251 for i in range(size))
        apkzip.write(tmp_path / "some.zip", {"AndroidManifest.xml": content, "classes.dex": content})
        with zipfile.ZipFile(tmp_path / "some.zip") as archive:
            assert archive.testzip() is None
            assert archive.read("AndroidManifest.xml") == archive.read("classes.dex") == content
            assert size <= archive.getinfo("AndroidManifest.xml").compress_size <= size + 5 * (size // 0xFFFF + 1)


def test_what_is_missing_is_said_at_once(tmp_path, shipped_program):
    def said(program, *command, **environment):
        done = subprocess.run([*command, ROOT / "android_demo/tools/apk.py", "--program", program, "-o", tmp_path / "out.apk"], capture_output=True, text=True,
                              env={**os.environ, **environment}, timeout=60)
        assert done.returncode == 1 and not list(tmp_path.glob("out*")) and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "there is no" in said(tmp_path / "none.pte", sys.executable)
    assert "apt install apksigner" in said(shipped_program, sys.executable, PATH=str(tmp_path))
    assert "make setup" in said(shipped_program, sys.executable, "-S")
    for tool in ("apksigner", "javac", "apt-get"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    assert "apt install maven npm" in said(shipped_program, sys.executable, PATH=str(tmp_path), BLOCKFFN_CACHE=str(tmp_path / "empty"))


def test_badging(apk):
    out = native.run([builder.aapt2(), "dump", "badging", apk["apk"]], "aapt2 dump")
    assert "package: name='org.blockffn.demo' versionCode='1'" in out
    assert re.search(r"(minSdkVersion|sdkVersion):'26'", out) and "targetSdkVersion:'36'" in out
    assert "launchable-activity: name='org.blockffn.demo.MainActivity'" in out
    assert "native-code: 'arm64-v8a' 'x86_64'" in out
    assert "uses-permission" not in out


def test_same_sources_same_bytes_anywhere(apk, shipped_program, shipped_head, tmp_path):
    """All of it again from a copy of the sources: other folders with a space in their names, compiler's place, home, time zone, language, umask, file times and names."""
    copy = tmp_path / "a deeper" / "folder"
    for folder in ("android_demo", "runtime_delegates", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("dist", "__pycache__", ".gradle"), copy_function=shutil.copyfile)
    cache = tmp_path / "its cache"
    cache.mkdir()
    for registry in ("npm", "pypi", "maven", "deb"):
        (cache / registry).symlink_to(downloads.cache() / registry)
    model = tmp_path / "models"
    model.mkdir()
    program, head = (shutil.copyfile(path, model / path.name) for path in (shipped_program, shipped_head))
    environment = {**os.environ, "BLOCKFFN_CACHE": str(cache), "HOME": str(tmp_path), "TZ": "Asia/Kolkata", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    done = subprocess.run([sys.executable, copy / "android_demo/tools/apk.py", "--program", program, "--draft", head, "--checkpoint", CHECKPOINT,
                           "-o", tmp_path / "other-name.apk"], capture_output=True, text=True, cwd=tmp_path, env=environment, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["bytes"] == apk["bytes"]
    with zipfile.ZipFile(apk["apk"]) as one, zipfile.ZipFile(tmp_path / "other-name.apk") as other:
        assert one.namelist() == other.namelist()
        assert [name for name in one.namelist() if one.read(name) != other.read(name)] == []
    assert (tmp_path / "other-name.apk").read_bytes() == Path(apk["apk"]).read_bytes()


def dex_instructions(dex):
    return native.run(["dexdump", "-d", dex], "dexdump")


def test_no_invoke_custom(apk, tmp_path):
    with zipfile.ZipFile(apk["apk"]) as archive:
        archive.extract("classes.dex", tmp_path)
    out = dex_instructions(tmp_path / "classes.dex")
    assert out.count("invoke-virtual") > 1000
    assert "invoke-custom" not in out and "invoke-polymorphic" not in out
    assert builder.call_sites((tmp_path / "classes.dex").read_bytes()) == 0


def test_the_gate_sees_invoke_custom(tmp_path):
    """A lambda of javac becomes invoke-custom."""
    (tmp_path / "Lambda.java").write_text("class Lambda { Runnable r = () -> {}; }")
    native.run([native.java_home() / "bin" / "javac", "--release", "8", "-Xlint:-options", "-d", tmp_path, tmp_path / "Lambda.java"], "javac")
    native.run(["jar", "cf", tmp_path / "lambda.jar", "-C", tmp_path, "Lambda.class"], "jar")
    builder.java("-cp", builder.jar("com.jakewharton.android.repackaged:dalvik-dx"), "com.android.dx.command.Main", "--dex", "--min-sdk-version=26",
                 f"--output={tmp_path / 'lambda.dex'}", tmp_path / "lambda.jar", what="dx")
    assert "invoke-custom" in dex_instructions(tmp_path / "lambda.dex")
    assert builder.call_sites((tmp_path / "lambda.dex").read_bytes()) == 1


SNIFFER = """
import java.io.*; import java.util.*; import org.codehaus.mojo.animal_sniffer.*; import org.codehaus.mojo.animal_sniffer.logging.*;
public class Sniff {
  public static void main(String[] a) throws Exception {
    Set<String> ignored = new HashSet<>(Arrays.asList("org.blockffn.*", "kotlin.*", "org.jetbrains.annotations.*"));
    SignatureChecker c = new SignatureChecker(new FileInputStream(a[0]), ignored, new PrintWriterLogger(System.out));
    c.setSourcePath(Collections.<File>emptyList());
    c.process(new File(a[1]));
    System.out.println("broken " + c.isSignatureBroken());
  }
}
"""


def test_nothing_newer_than_api_26_outside_the_guarded_class(apk, tmp_path):
    (tmp_path / "Sniff.java").write_text(SNIFFER)
    sniffer = ":".join(str(builder.jar(name)) for name in ("org.codehaus.mojo:animal-sniffer", "org.ow2.asm:asm"))
    native.run([native.java_home() / "bin" / "javac", "-cp", sniffer, "-d", tmp_path, tmp_path / "Sniff.java"], "javac")
    signature = downloads.package("com.toasttab.android:gummy-bears-api-26").path

    def sniff(folder):
        return builder.java("-cp", f"{tmp_path}:{sniffer}", "Sniff", signature, folder, what="animal-sniffer")

    classes = shutil.copytree(apk["classes"], tmp_path / "classes")
    guarded = list(classes.rglob("NewerApi*.class"))
    assert len(guarded) >= 2
    assert "broken true" in sniff(classes)  # the check sees what the guarded class calls
    for path in guarded:
        path.unlink()
    out = sniff(classes)
    assert "broken false" in out, out


def test_contents(apk, entries):
    assert {name.split("/")[1] for name in entries if name.startswith("lib/")} == set(native.ABIS)
    with zipfile.ZipFile(apk["apk"]) as archive:
        models = json.loads(archive.read("assets/models.json"))
    for model in models:
        assert f"assets/models/{model['id']}/{model['program']}" in entries and f"assets/models/{model['id']}/tokenizer.json" in entries
    assert sum(size for name, size in apk["part_bytes"].items() if name.startswith("lib/")) < 60_000_000
