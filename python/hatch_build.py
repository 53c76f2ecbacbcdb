"""The build of the package: a wheel has the binary helve for one platform, and the source distribution has the Go module that the binary is made of.

The Go toolchain makes the binary, for the platform that GOOS and GOARCH name, else for this machine. No C compiler takes part (CGO_ENABLED=0), so the
binary is static: it runs on every Linux of its processor, with glibc or with musl, and with every version of Python. The tag of the wheel says so. For
example, GOARCH=arm64 on an x86_64 machine makes a wheel for aarch64.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GO = (1, 26)
COMMAND = "./cmd/helve"
FILES = ("GoFiles", "IgnoredGoFiles", "EmbedFiles", "SFiles")  # of a Go package: code for each platform, files inside the binary
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
WHEELS = ("x86_64", "aarch64")  # machines whose wheels have the tags of the Python package index


class BinaryHook(BuildHookInterface):
    """The hook that hatchling calls around each build."""

    scratch = ""  # the directory of the binary of a wheel, until the wheel is written

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        here = Path(self.root)
        root = module(here)
        if self.target_name == "sdist":
            build_data["force_include"].update({str(root / name): f"go/{name}" for name in sources(root)})
            return
        if version == "editable":  # the package is used where it lies, and the binary lies in it
            build(root, here / "src" / "helve" / "_bin" / "helve")
        else:
            self.scratch = tempfile.mkdtemp(prefix="helve-build-")
            binary = Path(self.scratch) / "helve"
            build(root, binary)
            build_data["force_include"][str(binary)] = "helve/_bin/helve"
        goos, goarch = go(root, "env", "GOOS", "GOARCH").split()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platforms(goos, goarch)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.scratch:
            shutil.rmtree(self.scratch)


def module(here: Path) -> Path:
    """The directory of the Go module: the checkout that the package is in, or go/ in a source distribution."""
    for root in (here / "go", here.parent):
        if (root / "cmd" / "helve").is_dir() and (root / "go.mod").is_file():
            return root
    raise SystemExit("helve: the Go module is not beside the Python package; install from a checkout (pip install ./python), a wheel or a source distribution")


def go(root: Path, *args: str, **variables: str) -> str:
    """The output of the go command, in the directory of the module."""
    path = shutil.which("go")
    if path is None:
        raise SystemExit(
            "helve: building the binary needs Go 1.26 or newer, and there is no `go` on PATH. Install Go (https://go.dev/dl), or install a wheel: "
            "wheels are for Linux on x86_64 and aarch64, and need no Go"
        )
    done = subprocess.run([path, *args], cwd=root, env={**os.environ, "CGO_ENABLED": "0", **variables}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"helve: `go {args[0]}` has failed; the lines above say why")
    return done.stdout


def build(root: Path, binary: Path) -> None:
    """Makes the binary. The same sources and the same Go make the same bytes: no path and no state of git is in them."""
    version = go(root, "env", "GOVERSION").strip()
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < GO:
        raise SystemExit(f"helve: building the binary needs Go 1.26 or newer, found {version}")
    binary.parent.mkdir(parents=True, exist_ok=True)
    print(f"building helve with {version}", file=sys.stderr, flush=True)
    go(root, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(binary), COMMAND)


def sources(root: Path) -> list[str]:
    """The files that the binary is made of, as paths below the module: those of the packages that it imports, for every platform."""
    found = {"go.mod", "go.sum", "LICENSE"}
    output, at, decoder = go(root, "list", "-deps", "-json=Dir,Module," + ",".join(FILES), COMMAND), 0, json.JSONDecoder()
    while at < len(output):
        package, at = decoder.raw_decode(output, at)
        at += len(output[at:]) - len(output[at:].lstrip())
        if package.get("Module", {}).get("Main"):
            directory = Path(package["Dir"]).relative_to(root.resolve())
            found.update((directory / name).as_posix() for kind in FILES for name in package.get(kind) or () if kind == "EmbedFiles" or not name.endswith("_test.go"))
    return sorted(found)


def platforms(goos: str, goarch: str) -> str:
    """The platforms of a wheel with a static binary. manylinux_2_17 and manylinux2014 are one platform under a new and an old name."""
    machine = MACHINES.get(goarch, goarch)
    if goos != "linux":
        from packaging.tags import platform_tags  # of this machine: such a binary is not made for others

        return next(iter(platform_tags()))
    if machine not in WHEELS:
        return f"linux_{machine}"
    return f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_2_{machine}"
