"""Fetch what the Android build needs from package registries, each file checked against downloads.lock.

    .venv/bin/python android_demo/tools/downloads.py [GROUP ...]      native, apk, test; default all

Files lie in $BLOCKFFN_CACHE, or ~/.cache/blockffn-android, and are fetched once. The registries' own clients do
the work (npm, pip, mvn, apt-get), so that their mirrors and proxies apply. A file whose sha256 differs is refused.
Maven artifacts come without their dependencies: the lock lists every jar.

Errors  ValueError names the file, or the client that is missing, and the fix. Exit status 1.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

LOCK = Path(__file__).resolve().parent.parent / "downloads.lock"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


@dataclass(frozen=True)
class Package:
    sha256: str
    registry: str
    name: str
    groups: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the file lies; a Maven jar keeps its own name, since a classpath shows it."""
        if self.registry == "maven":
            name, _, ending = self.name.partition("@")
            _, artifact, version = name.split(":")
            return cache() / "maven" / f"{artifact}-{version}.{ending or 'jar'}"
        ending = {"npm": "tgz", "pypi": "whl", "deb": "deb"}[self.registry]
        return cache() / self.registry / f"{self.name.replace('/', '-').replace(':', '-')}.{ending}"


def cache() -> Path:
    return Path(os.environ.get("BLOCKFFN_CACHE") or Path.home() / ".cache" / "blockffn-android")


def packages(*groups: str) -> list[Package]:
    """The lock's entries, or those of some groups."""
    found = []
    for line in LOCK.read_text().splitlines():
        if line and not line.startswith("#"):
            sha256, registry, name, of = line.split()
            found.append(Package(sha256, registry, name, tuple(of.split(","))))
    return [p for p in found if not groups or set(groups) & set(p.groups)]


def package(name: str) -> Package:
    """The entry whose name begins so, for example "ziglang" or "org.robolectric:android-all:"."""
    found = [p for p in packages() if p.name.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"downloads.lock has {len(found)} packages {name}*; name one")
    return found[0]


def fetch(wanted: list[Package]) -> None:
    """Bring the missing files into the cache; all of a registry in one call of its client."""
    clients = {"npm": "npm", "pypi": sys.executable, "maven": "mvn", "deb": "apt-get"}
    absent = sorted({clients[p.registry] for p in wanted if not p.path.exists() and shutil.which(clients[p.registry]) is None})
    if absent:
        raise ValueError(f"missing, to fetch what the build needs: {' and '.join(absent)}: apt install "
                         f"{' '.join({'mvn': 'maven', 'apt-get': 'apt'}.get(client, client) for client in absent)}")
    for registry in clients:
        missing = [p for p in wanted if p.registry == registry and not p.path.exists()]
        if not missing:
            continue
        missing[0].path.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {', '.join(p.name for p in missing[:3])}{' ...' if len(missing) > 3 else ''}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            for got, p in globals()[f"_{registry}"](missing, Path(folder)):
                _check(got, p)
                got.replace(p.path)


def _check(path: Path, p: Package) -> None:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()
    if sha256 != p.sha256:
        raise ValueError(f"{p.name} from {p.registry} has sha256 {sha256}, downloads.lock says {p.sha256}: somebody "
                         "changed it on the way, or the registry did; look at it before you change the lock")


def _run(command: list[str], what: str, **more) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise ValueError(f"{command[0]} cannot fetch {what}:\n" + done.stdout[-2000:])


def _only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def _npm(missing: list[Package], folder: Path):
    for i, p in enumerate(missing):
        (folder / str(i)).mkdir()
        _run(["npm", "pack", "--silent", p.name], p.name, cwd=folder / str(i))
        yield _only(folder / str(i), "*.tgz"), p


def _pypi(missing: list[Package], folder: Path):
    for i, p in enumerate(missing):
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d",
              str(folder / str(i)), p.name], p.name)
        yield _only(folder / str(i), "*.whl"), p


def _maven(missing: list[Package], folder: Path):
    def item(p: Package) -> str:
        name, _, ending = p.name.partition("@")
        group, artifact, version = map(escape, name.split(":"))
        return (f"<artifactItem><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
                f"<type>{ending or 'jar'}</type><destFileName>{escape(p.path.name)}</destFileName></artifactItem>")

    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>none</groupId>'
        "<artifactId>downloads</artifactId><version>1</version><packaging>pom</packaging><build><plugins><plugin>"
        "<groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><configuration>"
        f"<outputDirectory>{escape(str(folder))}</outputDirectory><artifactItems>"
        + "".join(map(item, missing)) + "</artifactItems></configuration></plugin></plugins></build></project>")
    # A repository of its own: nothing that lies in the user's is trusted, and nothing is kept twice.
    _run(["mvn", "-q", "-B", f"-Dmaven.repo.local={folder / 'repository'}", MAVEN_COPY], "Maven artifacts", cwd=folder)
    for p in missing:
        yield folder / p.path.name, p


def _deb(missing: list[Package], folder: Path):
    # apt's state in a folder of its own: another processor's packages without adding it to the system.
    for i, p in enumerate(missing):
        name, architecture = p.name.rsplit(":", 1)
        state = folder / str(i)
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True)
        (state / "status").touch()
        apt = ["apt-get", "-q", f"-oDir::State={state}", f"-oDir::State::status={state}/status", "-oDebug::NoLocking=1",
               f"-oDir::Cache={state}/cache", f"-oAPT::Architecture={architecture}", "-oAcquire::Languages=none",
               f"-oAPT::Architectures={architecture}"]
        _run([*apt, "update"], p.name)
        _run([*apt, "download", name], p.name, cwd=state)
        yield _only(state, "*.deb"), p


def main() -> int:
    groups = sys.argv[1:]
    if {"-h", "--help"} & set(groups):
        print(__doc__)
        return 0
    known = {group for p in packages() for group in p.groups}
    if set(groups) - known:
        print(f"unknown group; name some of {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    try:
        fetch(packages(*groups))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
