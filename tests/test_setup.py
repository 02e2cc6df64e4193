"""What `make` and continuous integration rely on: the pins, the commands, and their sentences for a machine that lacks something."""

import os
import re
import subprocess
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10; pytest brings the same parser under its old name
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def pins():
    """{name: versions} of constraints.txt; every requirement must be one pinned name with its hashes."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, set[str]] = {}
    for requirement in "\n".join(lines).replace("\\\n", " ").splitlines():
        match = re.fullmatch(r"([a-z0-9-]+)==([0-9][\w.+]*)( ; [^#]*?)?((?: +--hash=sha256:[0-9a-f]{64})+) *", requirement)
        assert match, f"not pinned by hash: {requirement[:80]}"
        found.setdefault(match[1], set()).add(match[2])
    return found


def test_every_requirement_is_pinned_by_hash_and_names_no_registry():
    assert len(pins()) > 50
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_pins_cover_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = pins()
    for requirement in sum(project["optional-dependencies"].values(), project["dependencies"]):
        name, exact = re.fullmatch(r"([a-z0-9-]+)(?:==([^;\s]+)|>=[^;\s]+)?(?:\s*;.*)?", requirement).groups()
        assert name in found, f"run `make pins`: {name} is missing"
        assert exact is None or found[name] == {exact}, f"run `make pins`: {requirement} is pinned to {found[name]}"


def make(*arguments, **environment):
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env=os.environ | environment)


def test_help_lists_the_two_commands():
    done = make("help")
    assert done.returncode == 0
    assert {"demo", "test", "build", "setup"} <= {line.split()[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("too_old, sentence", [(True, "Python 3.10 or newer is needed"), (False, "apt install python3-venv")])
def test_setup_says_what_is_missing(tmp_path, too_old, sentence):
    python = tmp_path / "python"  # answers the version question as told, and has no venv module
    python.write_text(f'#!/bin/sh\ncase "$2" in *version_info*) exit {int(too_old)};; esac\nexit 1\n')
    python.chmod(0o755)
    done = make("setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0 and sentence in done.stderr
    assert not (tmp_path / "venv").exists()


def test_build_says_that_the_compiler_is_missing(tmp_path):
    ready = tmp_path / "ready"  # newer than the pins: there is nothing to set up
    ready.touch()
    done = make("build", f"READY={ready}", CXX="no-such-compiler")
    assert done.returncode != 0 and "apt install g++" in done.stderr


@pytest.mark.parametrize("status", [0, 2])
def test_ci_runs_make_test_and_reports_its_status(tmp_path, status):
    fake = tmp_path / "make"
    fake.write_text(f'#!/bin/sh\necho "make $* in $(pwd)"\nexit {status}\n')
    fake.chmod(0o755)
    done = subprocess.run([ROOT / ".ci" / "run"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.returncode, done.stdout) == (status, f"make test in {ROOT}\n")


def test_no_test_imports_a_conftest_by_its_bare_name():
    """Every folder has one; which of them is meant depends on the folders that a command names."""
    guilty = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")
              if re.search(r"^\s*(from conftest import|import conftest)", path.read_text(), re.MULTILINE)]
    assert not guilty
