"""Builds Kubernetes' programs from Debian's own source package, once, into a cache: `make test-kubernetes` does it.

Debian has no package of the servers any more, but bookworm's source package `kubernetes` is the whole tree. It needs
three things to compile with bookworm's Go: the old way of finding sources (GOPATH), a newer copy of one vendored
package, which Debian has too, and the generated description of the API, whose generator is in the tree.

`python -m tests.clusters.kubernetes_build` builds, and says how far it is; tests only look with `find`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.clusters import packages

VERSION = "1.20.2"
RECIPE = 1
"""Raised when the same sources are to be built otherwise."""

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
PROGRAMS = (*SERVERS, "etcd")

_PACKAGES = ("golang-go", "etcd-server", "dpkg-dev")
_SOURCE = "kubernetes/bookworm"
_REFLECT = "golang-github-modern-go-reflect2-dev"
_GENERATOR = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"
_DESCRIBED = re.compile(r"^// *\+k8s:openapi-gen=", re.MULTILINE)
_NOT_DESCRIBED = ("_test.go", "code-generator", "sample-apiserver", "/testdata/")


class KubernetesMissing(Exception):
    """It is not built here, and cannot be."""


def cache_directory() -> Path:
    """Where the programs are, or will be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "arvados-node-manager", f"kubernetes-{VERSION}-{RECIPE}")


def find() -> Path:
    """The directory of the programs; raises `KubernetesMissing` with what to do."""
    directory = cache_directory()
    if not all((directory / program).is_file() for program in PROGRAMS):
        raise KubernetesMissing(
            "Kubernetes is not built here: `make test-kubernetes` builds it (about 10 CPU minutes) and runs these"
        )
    return directory


def build() -> Path:
    """Build what is not built yet; the directory of the programs.

    An interrupted build leaves nothing that looks finished; of two at once the second waits for the first.
    """
    # Somebody else's cache can be used without a right to write there.
    with suppress(KubernetesMissing):
        return find()
    target = cache_directory()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(KubernetesMissing):
            return find()
        packages.ensure(_PACKAGES, _has_tools, KubernetesMissing)
        work = Path(tempfile.mkdtemp(prefix="kubernetes-build-", dir=target.parent))
        try:
            _Build(work).run()
            shutil.rmtree(target, ignore_errors=True)
            (work / "bin").rename(target)
        finally:
            # Go makes what it keeps unwritable.
            subprocess.run(["chmod", "-R", "u+w", str(work)], check=False)
            shutil.rmtree(work, ignore_errors=True)
    return find()


def _has_tools() -> bool:
    return all(map(shutil.which, ("go", "etcd", "dpkg-source")))


class _Build:
    """One build below a directory that is removed afterwards."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._bin = work / "bin"
        self._tree = work / "go" / "src" / "k8s.io" / "kubernetes"
        self._began = time.monotonic()
        self._env = {
            **os.environ,
            "GOPATH": str(work / "go"),
            "GOCACHE": str(work / "gocache"),
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOPROXY": "off",
            "GOSUMDB": "off",
            "CGO_ENABLED": "0",
        }

    def run(self) -> None:
        """All of it."""
        self._bin.mkdir()
        self._say("fetching Debian's source package (35 MB)")
        self._fetch()
        self._say("generating the description of the API")
        self._describe()
        for number, program in enumerate(SERVERS, 1):
            self._say(f"building {program} ({number} of {len(SERVERS)})")
            self._go(
                "build",
                "-tags",
                "providerless",
                "-ldflags",
                _ldflags(),
                "-o",
                str(self._bin),
                f"./cmd/{program}",
            )
        shutil.copyfile(str(shutil.which("etcd")), self._bin / "etcd")
        (self._bin / "etcd").chmod(0o755)
        self._say("done")

    def _fetch(self) -> None:
        apt = self._private_apt()
        self._call("apt-get", *apt, "-qq", "update")
        self._call("apt-get", *apt, "-qq", "source", "--download-only", _SOURCE)
        self._call("apt-get", *apt, "-qq", "download", _REFLECT)
        (archive,) = self._work.glob("kubernetes_*.orig.tar.gz")
        self._call("tar", "xzf", archive.name)
        (unpacked,) = (path for path in self._work.glob("kubernetes-*") if path.is_dir())
        self._tree.parent.mkdir(parents=True)
        unpacked.rename(self._tree)
        (package,) = self._work.glob(f"{_REFLECT}_*.deb")
        self._call("dpkg", "-x", package.name, "reflect2")
        # The vendored one crashes in what Go 1.18 and later compile.
        vendored = self._tree / "vendor/github.com/modern-go/reflect2"
        for old in vendored.glob("*.go"):
            old.unlink()
        newer = self._work / "reflect2/usr/share/gocode/src/github.com/modern-go/reflect2"
        for path in newer.glob("*.go"):
            if not path.name.endswith("_test.go"):
                shutil.copy(path, vendored)

    def _private_apt(self) -> list[str]:
        """Options for lists of our own, with sources: the machine's stay as they are."""
        parts, lists = self._work / "apt" / "parts", self._work / "apt" / "lists"
        parts.mkdir(parents=True)
        (lists / "partial").mkdir(parents=True)
        modern = Path("/etc/apt/sources.list.d/debian.sources")
        if modern.exists():
            text = re.sub(r"(?m)^Types: deb$", "Types: deb deb-src", modern.read_text())
            (parts / "debian.sources").write_text(text)
        else:
            text = Path("/etc/apt/sources.list").read_text()
            text += re.sub(r"(?m)^deb ", "deb-src ", text)
            (parts / "debian.list").write_text(text)
        return [
            "-oDir::Etc::sourcelist=/dev/null",
            f"-oDir::Etc::sourceparts={parts}",
            f"-oDir::State::lists={lists}",
            "-oAPT::Sandbox::User=root",
        ]

    def _describe(self) -> None:
        generator = self._work / "openapi-gen"
        self._go("build", "-o", str(generator), _GENERATOR)
        packages_described = sorted(
            f"k8s.io/kubernetes/{path.parent.relative_to(self._tree)}".replace(
                "/staging/src/", "/vendor/"
            )
            for top in ("pkg", "cmd", "plugin", "staging/src/k8s.io")
            for path in (self._tree / top).rglob("*.go")
            if not any(part in str(path) for part in _NOT_DESCRIBED)
            and _DESCRIBED.search(path.read_text(errors="replace"))
        )
        self._call(
            str(generator),
            "--go-header-file", "hack/boilerplate/boilerplate.generatego.txt",
            "-i", ",".join(dict.fromkeys(packages_described)),
            "-p", "k8s.io/kubernetes/pkg/generated/openapi",
            "-O", "zz_generated.openapi",
            "-r", str(self._work / "violations"),
            cwd=self._tree,
        )  # fmt: skip

    def _go(self, *arguments: str) -> None:
        self._call("go", *arguments, cwd=self._tree)

    def _call(self, *command: str, cwd: Path | None = None) -> None:
        done = subprocess.run(
            command,
            env=self._env,
            cwd=cwd or self._work,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise KubernetesMissing(f"{' '.join(command)[:300]}: {done.stderr.strip()[-1000:]}")

    def _say(self, words: str) -> None:
        sys.stdout.write(
            f"== Kubernetes {VERSION}, {time.monotonic() - self._began:4.0f} s: {words}\n"
        )
        sys.stdout.flush()


def _ldflags() -> str:
    """Stripped, and knowing its version, which a build elsewhere takes from git."""
    facts = {
        "gitVersion": f"v{VERSION}",
        "gitMajor": "1",
        "gitMinor": "20",
        "gitTreeState": "archive",
    }
    where = ("client-go/pkg/version", "component-base/version")
    prefix = "k8s.io/kubernetes/vendor/k8s.io"
    named = [
        f"-X {prefix}/{package}.{name}={value}"
        for package in where
        for name, value in facts.items()
    ]
    return " ".join(("-s", "-w", *named))


def main() -> int:
    """Build, for a person or for continuous integration."""
    try:
        directory = build()
    except KubernetesMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Kubernetes {VERSION} is in {directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
