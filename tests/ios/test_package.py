"""The Swift package on Linux: built, formatted, and tested on the shipped checkpoint's program."""

import re
from pathlib import Path

import pytest
from tests.ios import metal_kernels
from tests.ios.conftest import PACKAGE, ROOT, SCRATCH

STAND_IN = ROOT / "tests" / "ios" / "metal_stand_in"
METAL_TESTS = "BlockFFNMetalTests"
SOURCES = sorted(path for folder in ("BlockFFNKit", "App") for path in (ROOT / "ios_demo" / folder).rglob("*.swift")
                 if path.name != "Package.swift")


@pytest.fixture(scope="module")
def tests_built(swift, backend):
    built = swift("swift", "build", "--build-tests", "--scratch-path", SCRATCH)
    assert built.returncode == 0, built.stdout[-6000:] + built.stderr[-2000:]
    assert "warning:" not in built.stdout, built.stdout[-6000:]


def test_swift_tests(swift, tests_built, model):
    done = swift("swift", "test", "--skip-build", "--scratch-path", SCRATCH, BLOCKFFN_TEST_MODEL=str(model))
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    count = re.search(r"Test run with (\d+) tests passed", output)
    assert count and int(count[1]) == sum(len(re.findall(r"^\s*@Test", path.read_text(), re.M)) for path in SOURCES if METAL_TESTS not in path.parts)


@pytest.fixture(scope="module")
def metal_tests(swift, model, tmp_path_factory):
    """metal_tests(filter, *arguments) runs tests as Apple platforms get the native part: SwiftPM compiles the C++ sources,
    here with Swift's clang, and there is a module named Metal, here one that runs the kernels on the CPU."""
    import executorch

    wheel, cache = str(Path(list(executorch.__path__)[0]).resolve()), tmp_path_factory.mktemp("cache")
    kernels = metal_kernels.library(SCRATCH.parent)

    def call(wanted, *arguments):
        return swift("swift", "test", "--scratch-path", f"{SCRATCH}-source", "--filter", wanted, *arguments, BLOCKFFN_EXECUTORCH=wheel,
                     BLOCKFFN_TEST_MODEL=str(model), BLOCKFFN_METAL_STAND_IN=str(STAND_IN), BLOCKFFN_CACHE_DIR=str(cache),
                     BLOCKFFN_METAL_KERNELS=str(kernels))

    call.cache = cache
    return call


def test_sources_compiled_by_the_package_and_metal(metal_tests):
    done = metal_tests("EngineTests|MetalTests", "--skip", "MetalMemoryTests")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    assert re.search(r"Test run with \d\d tests passed", output)
    assert "Suite MetalTests passed" in output and "device gpu stand-in none" in output
    assert "warning:" not in output, output[-6000:]
    verdicts = sorted((path.name.split("_")[1].split("-")[0], path.read_text()[:6]) for path in metal_tests.cache.glob("gpu-metal-*"))
    assert ("none", "passed") in verdicts and ("ignoresBarriers", "failed") in verdicts


def test_weights_on_the_gpu_take_no_memory_of_their_own(metal_tests):
    done = metal_tests("MetalMemoryTests")
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "Suite MetalMemoryTests passed" in output, output[-8000:]
    assert "anonymous memory" in output


def test_format(swift):
    done = swift("swift", "format", "lint", "--strict", "--configuration", PACKAGE / ".swift-format",
                 PACKAGE / "Package.swift", *SOURCES, *STAND_IN.rglob("Sources/*/*.swift"))
    assert done.returncode == 0, done.stdout + done.stderr


def swift_blocks(page: Path) -> list[str]:
    """Swift of a Markdown page: fenced as such, or indented and beginning with an import."""
    text = page.read_text()
    fenced = re.findall(r"^```swift\n(.*?)^```", text, re.M | re.S)
    return fenced + re.findall(r"^    import \w+\n(?:    .*\n|\n)+", text, re.M)


def test_swift_of_the_pages_parses(swift, tmp_path):
    blocks = swift_blocks(ROOT / "docs" / "coreml.md") + swift_blocks(ROOT / "ios_demo" / "README.md")
    assert len(blocks) == 2 and "CoreML" in blocks[0] and "BlockFFNKit" in blocks[1]
    for i, block in enumerate([*blocks, blocks[0].rstrip().removesuffix("}")]):
        (tmp_path / f"{i}.swift").write_text(block)
        done = swift("swiftc", "-frontend", "-parse", tmp_path / f"{i}.swift")
        assert (done.returncode == 0) == (i < len(blocks)), done.stdout + done.stderr  # the last one lacks a brace


def test_every_source_parses(swift):
    assert len(SOURCES) > 10
    done = swift("swiftc", "-frontend", "-parse", *SOURCES)
    assert done.returncode == 0, done.stdout + done.stderr
