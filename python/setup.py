"""Builds the helve binary into the package, with the Go toolchain of the machine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = Path(__file__).resolve().parent
BINARY = HERE / "src" / "helve" / "_bin" / "helve"
GO = (1, 26)


def build_binary() -> None:
    root = HERE.parent
    if not (root / "cmd" / "helve").is_dir():
        if BINARY.exists():  # built before, as in a source archive made from a checkout
            return
        raise SystemExit("helve: the Go sources are not beside the Python package; install from a checkout: pip install ./python")
    go = shutil.which("go")
    if go is None:
        raise SystemExit("helve: building the node needs Go 1.26 or newer, and there is no `go` on PATH (https://go.dev/dl)")
    out = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"go(\d+)\.(\d+)", out)
    if found and (int(found[1]), int(found[2])) < GO:
        raise SystemExit(f"helve: building the node needs Go 1.26 or newer, found {out.strip()}")
    BINARY.parent.mkdir(exist_ok=True)
    print(f"building {BINARY.name} with {out.strip()}", flush=True)
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(BINARY), "./cmd/helve"], cwd=root, env=os.environ
    )
    if done.returncode:
        raise SystemExit("helve: building the node failed; the lines above say why")


class Build(build_py):
    def run(self):
        build_binary()
        super().run()


class BinaryDistribution(Distribution):
    def has_ext_modules(self):  # the wheel is for one platform
        return True


setup(cmdclass={"build_py": Build}, distclass=BinaryDistribution)
