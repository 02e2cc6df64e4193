"""Fixtures of the iOS tests: a Swift toolchain in a Debian trixie root, and the program that its tests run."""

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ios_demo" / "BlockFFNKit"
CHROOT = ROOT / "ios_demo" / "tools" / "swift-chroot"
SCRATCH = ROOT / "build" / "swift"  # kept, so that the second run builds nothing
PTE = Path("out/blockffn-22m-docs/model-int8.pte")
NOT_POSSIBLE = 3  # exit status of swift-chroot where a machine allows no chroot
PROMPTS = {  # and how many tokens the Python session adds
    "To install the package, run the following command:": 96,
    "The kernel": 40,
    "Größe der Datei in Übersicht 😀:": 24,
}


def run(command, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)


@pytest.fixture(scope="session")
def swift():
    """swift(*arguments, folder=PACKAGE, **env) runs a command where there is Swift; made on first use."""
    if os.environ.get("CI") != "true" and not Path(os.environ.get("BLOCKFFN_CACHE", Path.home() / ".cache/blockffn"),
                                                   "trixie").is_dir():
        pytest.skip("NOT RUN: the iOS package is built and tested by a Swift toolchain that is not here yet; "
                    "make it once with `ios_demo/tools/swift-chroot setup` (root, debootstrap, 3 GB, a few minutes)")
    made = run([CHROOT, "setup"], timeout=1800)
    if made.returncode == NOT_POSSIBLE and os.environ.get("CI") != "true":
        pytest.skip(f"NOT RUN: the iOS package needs a chroot with Swift. {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr

    import executorch

    def call(*command, folder=PACKAGE, **env):
        return run([CHROOT, "run", *command], cwd=folder, timeout=1700,
                   env=os.environ | {"BLOCKFFN_BIND": str(Path(list(executorch.__path__)[0]).resolve())} | env)

    return call


@pytest.fixture(scope="session")
def model(backend, tiny_pte, tmp_path_factory):
    """Folder with small programs of every precision (precisions/), and the shipped checkpoint and its draft head as programs, its tokenizer, and golden tokens of the Python session."""
    with open(ROOT / "build" / "export.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = run(["make", "-C", ROOT, PTE, PTE.with_name("draft-int8.pte")])
    assert made.returncode == 0, made.stdout + made.stderr
    from runtime_delegates.session import Session
    from training.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("model")
    for file in (ROOT / PTE).parent.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "precisions").mkdir()
    for precision in ("fp32", "int8", "int4"):
        (folder / "precisions" / f"model-{precision}.pte").symlink_to(tiny_pte(precision))
    session, tokenizer = Session(folder / PTE.name, threads=1), load_tokenizer(folder)
    cases = []
    for prompt, count in PROMPTS.items():
        ids = [session.bos_id] + tokenizer.encode(prompt)
        session.reset()
        tokens = [int(session.step(ids)[0][-1].argmax())]
        while len(tokens) < count:
            tokens.append(int(session.step(tokens[-1:])[0][-1].argmax()))
        assert not set(tokens) & set(session.eos_ids), "choose a prompt whose greedy text is longer"
        cases.append({"prompt": prompt, "promptTokens": ids, "tokens": tokens, "text": tokenizer.decode(tokens)})
    (folder / "golden.json").write_text(json.dumps(
        {"vocabularySize": session.vocab_size, "maxContext": session.max_context, "cases": cases}))
    return folder
