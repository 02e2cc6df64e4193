"""The app itself: its real activities on the framework classes of Android on this machine's JVM, over the real engine.

DemoTest.kt holds the tests. They run on the classes of the build with Android 15 and with Android 8.0, the oldest one
that the app supports, and on the dex taken back out of the signed APK.
"""

import sys
import zipfile
from pathlib import Path

import native
import pytest
from conftest import CHECKPOINT

from runtime_delegates.runner import Runner

sys.path.insert(0, str(Path(__file__).parent / "robolectric"))
import jvm

PROMPT = "To install the package, run the following command:"  # strings.xml's prompt_default
TESTS = 15


@pytest.fixture(scope="module")
def prepared(apk, shipped_program, tmp_path_factory):
    """The compiled tests, and the options that they need."""
    work = tmp_path_factory.mktemp("app")
    with Runner(shipped_program) as runner:
        runner.load_tokenizer(CHECKPOINT / "tokenizer.json")
        golden = runner.generate_text(PROMPT, max_tokens=160, mode="plain").text
    assert len(golden) > 200
    (work / "golden.txt").write_text(golden)
    library = native.build_desktop(native.ROOT / "build" / "android")
    options = [f"-Dblockffn.golden={work / 'golden.txt'}", f"-Dblockffn.program={shipped_program}", f"-Dblockffn.screenshots={work / 'pictures'}"]
    return work, jvm.compile_tests(apk["classes"], work), library, options


def test_on_the_classes_of_the_build(prepared, apk):
    work, tests, library, options = prepared
    out = jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work, *options)
    assert f"OK ({TESTS} tests)" in out, out[-3000:]
    pictures = {path.stem: path for path in (work / "pictures").glob("*.png")}
    assert set(pictures) == {"portrait", "landscape", "night", "large-font", "right-to-left", "benchmark", "broken"}
    for path in pictures.values():
        assert path.stat().st_size > 20_000, f"{path.name} is almost empty"


def test_on_the_oldest_android(prepared, apk):
    work, tests, library, options = prepared
    out = jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work, *options[:2],
                        sdk=jvm.builder.MIN_SDK)
    assert f"OK ({TESTS} tests)" in out, out[-3000:]


def test_on_the_dex_of_the_signed_apk(prepared, apk):
    work, tests, library, options = prepared
    with zipfile.ZipFile(apk["apk"]) as archive:
        archive.extract("classes.dex", work)
    native.run(["enjarify", work / "classes.dex", "-o", work / "dex.jar"], "enjarify",
               env={"PATH": "/usr/bin:/bin"})  # its module is Debian's Python's
    asm = jvm.builder.jar("org.ow2.asm:asm")
    (work / "frames").mkdir()
    native.run([native.java_home() / "bin" / "javac", "-cp", asm, "-d", work / "frames", jvm.HERE / "Frames.java"], "javac")
    jvm.builder.java("-cp", f"{work / 'frames'}:{asm}", "Frames", work / "dex.jar", work / "back.jar", jvm.builder.android_jar(), what="Frames")
    # The app's classes are the dex's. Kotlin's library is the whole one, since the tests use more of it than the app.
    path = [jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib"), work / "back.jar"]
    out = jvm.run_tests(path, tests, apk["apk"], library, work, *options, "-Xverify:all")
    assert f"OK ({TESTS} tests)" in out, out[-3000:]


def test_a_wrong_text_is_noticed(prepared, apk):
    work, tests, library, options = prepared
    (work / "wrong.txt").write_text("another text")
    with pytest.raises(ValueError, match="ComparisonFailure"):
        jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work,
                      f"-Dblockffn.golden={work / 'wrong.txt'}", *options[1:], only="aPickedFileIsAModelLikeAnyOther")
