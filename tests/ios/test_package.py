"""The Swift package on Linux: its sources."""

from tests.ios.conftest import PACKAGE, ROOT

SOURCES = sorted(path for folder in ("BlockFFNKit", "App") for path in (ROOT / "ios_demo" / folder).rglob("*.swift")
                 if path.name != "Package.swift")


def test_format(swift):
    done = swift("swift", "format", "lint", "--strict", "--configuration", PACKAGE / ".swift-format",
                 PACKAGE / "Package.swift", *SOURCES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_source_parses(swift):
    assert len(SOURCES) > 10
    done = swift("swiftc", "-frontend", "-parse", *SOURCES)
    assert done.returncode == 0, done.stdout + done.stderr
