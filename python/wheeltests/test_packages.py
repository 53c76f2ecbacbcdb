"""The packages in dist/ (make wheels): their names, their files, their metadata, and the binary in them."""

import email
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import packaging.utils
import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "python/src/helve/__init__.py").read_text())[1]
MACHINES = {"x86_64": 62, "aarch64": 183}  # and their numbers in the head of an ELF file
INTERPRETER, DYNAMIC = 3, 2  # kinds of program headers that a static program has not
WITHOUT_GO = "/usr/bin:/bin"


def wheel(machine):
    return DIST / f"helve_serve-{VERSION}-py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_2_{machine}.whl"


SDIST = DIST / f"helve_serve-{VERSION}.tar.gz"


def names_in_git(*paths):
    return set(subprocess.run(["git", "ls-files", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")) - {""}


def test_names():
    assert {p.name for p in DIST.iterdir()} == {wheel("x86_64").name, wheel("aarch64").name, SDIST.name}


@pytest.mark.parametrize("machine", MACHINES)
def test_files_of_wheel(machine):
    info = f"helve_serve-{VERSION}.dist-info/"
    package = {name.removeprefix("python/src/") for name in names_in_git("python/src/helve")}
    with zipfile.ZipFile(wheel(machine)) as z:
        assert set(z.namelist()) == package | {"helve/_bin/helve"} | {info + name for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
        assert "helve/py.typed" in z.namelist()
        assert z.read(info + "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert z.read(info + "entry_points.txt").decode().split() == ["[console_scripts]", "helve", "=", "helve._cli:main"]
        assert b"Root-Is-Purelib: false" in z.read(info + "WHEEL")


@pytest.mark.parametrize("machine", MACHINES)
def test_metadata(machine):
    with zipfile.ZipFile(wheel(machine)) as z:
        m = email.message_from_bytes(z.read(f"helve_serve-{VERSION}.dist-info/METADATA"))
    assert (m["Name"], m["Version"], m["Requires-Python"], m["License-Expression"]) == ("helve-serve", VERSION, ">=3.10", "Apache-2.0")
    assert m.get_all("License-File") == ["LICENSE"]
    assert set(m.get_all("Provides-Extra")) == {"uvloop", "fastapi", "test", "types"}
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(m.get_all("Classifier"))
    assert m["Description-Content-Type"] == "text/markdown"
    assert m.get_payload() == (ROOT / "python/README.md").read_text()


@pytest.mark.parametrize("machine", MACHINES)
def test_binary_is_static(machine):
    with zipfile.ZipFile(wheel(machine)) as z:
        entry = z.getinfo("helve/_bin/helve")
        binary = z.read(entry)
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o755
    assert binary[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<H", binary, 18)[0] == MACHINES[machine]
    at, size, count = struct.unpack_from("<Q", binary, 32)[0], *struct.unpack_from("<HH", binary, 54)
    kinds = {struct.unpack_from("<I", binary, at + i * size)[0] for i in range(count)}
    assert not kinds & {INTERPRETER, DYNAMIC}, kinds


@pytest.mark.parametrize("machine", MACHINES)
def test_tags(machine):
    _, _, _, tags = packaging.utils.parse_wheel_filename(wheel(machine).name)
    assert {str(tag) for tag in tags} == {f"py3-none-{system}_{machine}" for system in ("manylinux_2_17", "manylinux2014", "musllinux_1_2")}


@pytest.mark.parametrize("platform, python", [("musllinux_1_2_x86_64", "3.15"), ("manylinux2014_aarch64", "3.10")])
def test_pip_takes_wheel(platform, python, tmp_path):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-index", "--pre", "--no-deps", "--only-binary=:all:", "--find-links", DIST, "-d", tmp_path]
    subprocess.run([*command, "--platform", platform, "--python-version", python, "helve-serve"], check=True)
    assert [p.name for p in tmp_path.iterdir()] == [wheel("aarch64" if "aarch64" in platform else "x86_64").name]


def test_files_of_source_distribution():
    with tarfile.open(SDIST) as t:
        have = {m.name.partition("/")[2] for m in t.getmembers() if m.isfile()}
        assert all(m.isfile() for m in t.getmembers())
    package = {name.removeprefix("python/") for name in names_in_git("python/src/helve")}
    go = {name.removeprefix("go/") for name in have if name.startswith("go/")}
    assert have - {"go/" + name for name in go} - package == {".gitignore", "PKG-INFO", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"}
    assert {"go.mod", "go.sum", "LICENSE", "run.go", "cmd/helve/main.go"} <= go <= names_in_git()
    assert not [name for name in go if name.endswith("_test.go") or name.startswith(("bench/", "examples/"))]


def test_source_distribution_builds_same_wheel(tmp_path):
    """The source distribution has all that the binary is made of, and the binary depends on nothing else: not on the directory, and not on git."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "wheels", SDIST]
    subprocess.run(command, check=True, env={**os.environ, "GOFLAGS": ""})
    made = tmp_path / "wheels" / wheel(os.uname().machine).name
    with zipfile.ZipFile(made) as ours, zipfile.ZipFile(wheel(os.uname().machine)) as theirs:
        assert {i.filename: i.CRC for i in ours.infolist()} == {i.filename: i.CRC for i in theirs.infolist()}
    assert made.read_bytes() == wheel(os.uname().machine).read_bytes()


def test_source_distribution_without_go(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, SDIST]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": WITHOUT_GO})
    assert done.returncode and "helve: building the binary needs Go 1.26 or newer, and there is no `go` on PATH" in done.stdout + done.stderr, done.stdout + done.stderr


def test_readme_has_seed_program():
    """The program of the README is the seed program up to its last lines, which the README has as commands."""
    program = re.search(r"```python\n(.*?)```", (ROOT / "python/README.md").read_text(), re.S)[1].strip()
    assert program in (ROOT / "examples/python/hello.py").read_text()
