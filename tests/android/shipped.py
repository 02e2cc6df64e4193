"""What the Android tests share besides fixtures. A module of its own: `conftest` is the name of one file in every folder of tests."""

import os

import pytest

from tests.conftest import ROOT

CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"


def unless_ci(reason: str) -> None:
    """Skips the test, or fails it where the environment says CI, where everything must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
