"""The app itself: its real activities on the framework classes of Android on this machine's JVM, over the real engine.

AccessibilityTest.kt holds the tests of names, sizes and contrast, DemoTest.kt all others. The latter run on the classes
of the build with Android 15, with 8.0 (the oldest one that the app supports) and with 16, and on the dex taken back out of
the signed APK.
"""

import re
import sys
import zipfile
from pathlib import Path

import native
import pytest
from shipped import CHECKPOINT, unless_ci

from runtime_delegates.runner import Runner

sys.path.insert(0, str(Path(__file__).parent / "robolectric"))
import jvm

PROMPT = "To install the package, run the following command:"  # strings.xml's prompt_default
TESTS = (jvm.ROOT / "android_demo/app/src/test/kotlin/org/blockffn/demo/DemoTest.kt").read_text().count("    @Test\n")


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
    pictures = {path.stem: path for path in (work / "pictures").glob("*.png") if path.stem != "screens"}
    assert set(pictures) == {"portrait", "landscape", "night", "large-font", "right-to-left", "benchmark", "broken"}
    for path in pictures.values():
        assert path.stat().st_size > 20_000, f"{path.name} is almost empty"


@pytest.mark.parametrize("sdk", [jvm.builder.MIN_SDK, 36])
def test_on_the_oldest_and_on_the_newest_android(prepared, apk, sdk):
    work, tests, library, options = prepared
    out = jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work, *options[:2], sdk=sdk)
    assert f"OK ({TESTS} tests)" in out, out[-3000:]


@pytest.fixture(scope="module")
def translated(apk, tmp_path_factory):
    """The dex of the signed APK as class files that a JVM verifies, and how to add what the tests use of Kotlin's library."""
    work = tmp_path_factory.mktemp("dex")
    with zipfile.ZipFile(apk["apk"]) as archive:
        archive.extract("classes.dex", work)
    native.run(["enjarify", work / "classes.dex", "-o", work / "dex.jar"], "enjarify",
               env={"PATH": "/usr/bin:/bin"})  # its module is Debian's Python's
    path = jvm.builder.jars(["org.ow2.asm:asm", "org.ow2.asm:asm-tree"])
    native.run([native.java_home() / "bin" / "javac", "-cp", path, "-d", work / "tools", jvm.HERE / "Frames.java", jvm.HERE / "Whole.java"], "javac")

    def tool(name, *arguments):
        return jvm.builder.java("-cp", f"{work / 'tools'}:{path}", name, *arguments, what=name)

    tool("Frames", work / "dex.jar", work / "back.jar", jvm.builder.android_jar())
    return work / "back.jar", lambda shrunk, out: tool("Whole", shrunk, jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib"), out)


def test_on_the_dex_of_the_signed_apk(prepared, apk, translated):
    """App and Kotlin are the dex's. The tests use more of Kotlin than the app does: that alone is filled in, after a look
    that no class of the dex needs it."""
    work, tests, library, options = prepared
    back, whole = translated
    assert int(re.search(r"(\d+) classes of Kotlin", whole(back, work / "whole.jar"))[1]) > 50
    path = [work / "whole.jar", jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")]
    out = jvm.run_tests(path, tests, apk["apk"], library, work, *options, "-Xverify:all")
    assert f"OK ({TESTS} tests)" in out, out[-3000:]


@pytest.mark.parametrize("lost", ["kotlin/jvm/internal/Intrinsics.class", "kotlin/LazyKt.class"])
def test_what_shrinking_must_not_take_is_noticed(translated, tmp_path, lost):
    back, whole = translated
    with zipfile.ZipFile(back) as full, zipfile.ZipFile(tmp_path / "less.jar", "w") as less:
        assert lost in full.namelist()
        for name in full.namelist():
            if name != lost:
                less.writestr(name, full.read(name))
    with pytest.raises(ValueError, match=f"needs {lost.removesuffix('.class')}"):
        whole(tmp_path / "less.jar", tmp_path / "whole.jar")


def test_accessibility(prepared, apk):
    work, tests, library, options = prepared
    out = jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work, options[2],
                        suite="AccessibilityTest")
    assert "OK (2 tests)" in out, out[-3000:]
    assert (work / "pictures" / "screens.png").stat().st_size > 200_000


@pytest.fixture(scope="module")
def lavapipe():
    """The description of Mesa's software driver, which has all that a GPU has but speed."""
    found = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not found or not Path("/usr/include/vulkan/vulkan_core.h").is_file():
        unless_ci("NOT TESTED: the app on a GPU. Needed: apt install mesa-vulkan-drivers libvulkan1 libvulkan-dev")
    return found[0]


def test_on_the_gpu(prepared, apk, lavapipe, shipped_program, monkeypatch):
    work, tests, library, options = prepared
    monkeypatch.setenv("VK_ICD_FILENAMES", str(lavapipe))
    monkeypatch.setenv("BLOCKFFN_DEVICE", "gpu")
    monkeypatch.setenv("BLOCKFFN_CACHE_DIR", str(work / "cache"))
    with Runner(shipped_program) as runner:
        runner.load_tokenizer(CHECKPOINT / "tokenizer.json")
        text = runner.generate_text(PROMPT, max_tokens=16, mode="plain").text
    (work / "gpu.txt").write_text(text)
    monkeypatch.delenv("BLOCKFFN_CACHE_DIR")
    monkeypatch.delenv("BLOCKFFN_DEVICE")
    out = jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work, *options,
                        f"-Dblockffn.gpu={work / 'gpu.txt'}", only="theGpuIsChosenKeptAndNamed", gpu=lavapipe)
    assert f"OK ({TESTS} tests)" in out, out[-3000:]


def test_the_readmes_flow_is_what_the_tests_run():
    def code(text):
        return [line.strip() for line in text.splitlines() if line.strip()]

    readme = (jvm.ROOT / "android_demo/README.md").read_text()
    (flow,) = re.findall(r"^    (fun BlockFFN\.texts.*?^    \}\n)", readme, re.M | re.S)
    tested = (jvm.ROOT / "android_demo/app/src/test/kotlin/org/blockffn/demo/Flows.kt").read_text()
    assert code(flow) == code(tested[tested.index("fun BlockFFN"):])


def test_a_wrong_text_is_noticed(prepared, apk):
    work, tests, library, options = prepared
    (work / "wrong.txt").write_text("another text")
    with pytest.raises(ValueError, match="ComparisonFailure"):
        jvm.run_tests([apk["classes"], jvm.builder.jar("org.jetbrains.kotlin:kotlin-stdlib")], tests, apk["apk"], library, work,
                      f"-Dblockffn.golden={work / 'wrong.txt'}", *options[1:], only="aPickedFileIsAModelLikeAnyOther")
