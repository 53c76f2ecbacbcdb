"""The wheel in environments without Go, one for each Python that .ci/wheels has found, and the binary for aarch64 in an emulator."""

import concurrent.futures
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from test_packages import ROOT, VERSION, WITHOUT_GO, wheel

PYTHONS = os.environ["HELVE_TEST_PYTHONS"].split()
EMULATORS = os.environ["HELVE_TEST_EMULATOR"].split()  # of aarch64; none where there is none to be had
SEED = ROOT / "examples/python/hello.py"
OURS = wheel(platform.machine())


def extract(wheel, directory):
    """Writes the binary of a wheel."""
    with zipfile.ZipFile(wheel) as z:
        (directory / "helve").write_bytes(z.read("helve/_bin/helve"))
    (directory / "helve").chmod(0o755)


@pytest.fixture(scope="session")
def environments(tmp_path_factory):
    """The environments, made beside each other: most of the time goes to pip."""

    def make(python):
        path = tmp_path_factory.mktemp("environment")
        subprocess.run([python, "-m", "venv", "--without-pip", path], check=True)
        subprocess.run([sys.executable, "-m", "pip", "--python", path, "install", "-q", "--no-compile", "--only-binary=:all:", "-c", ROOT / "python/constraints.txt", OURS], check=True)
        return path / "bin"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = {python: pool.submit(make, python) for python in PYTHONS}
    return {python: future.result() for python, future in made.items()}


@pytest.fixture(params=PYTHONS)
def run(request, environments, tmp_path):
    """Runs a program of an environment, in an empty directory, and returns what it prints."""
    bin = environments[request.param]
    variables = {"PATH": f"{bin}:{WITHOUT_GO}", "HOME": str(tmp_path), "HELVE_RUNTIME_DIR": str(tmp_path)}
    assert shutil.which("go", path=variables["PATH"]) is None

    def run(program, *args):
        done = subprocess.run([bin / program, *args], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_seed_program(run):
    assert "Hello world!\n" in run("helve", "run", "--http", "127.0.0.1:0", SEED)


def test_versions(run):
    assert run("helve", "--version") == run("python", "-m", "helve", "--version") == f"helve {VERSION}\n"
    assert re.fullmatch(rf"helve {re.escape(VERSION)} at /.*/helve\nbinary {re.escape(VERSION)} at /.*/_bin/helve, go.*\nPython 3\..* at /.*\n", run("helve", "version"))


def test_commands_of_binary(run):
    assert "exec:PATH" in run("helve", "run", "--help")


def test_binary_needs_no_file_of_system(tmp_path):
    """The binary runs where there is nothing but itself, so it runs with every C library and without one."""
    extract(OURS, tmp_path)
    done = subprocess.run(["/helve", "--version"], preexec_fn=lambda: os.chroot(tmp_path), env={}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"helve {VERSION} ")


@pytest.mark.parametrize("emulator", EMULATORS)
def test_aarch64(emulator, tmp_path):
    extract(wheel("aarch64"), tmp_path)
    done = subprocess.run([emulator, tmp_path / "helve", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and re.fullmatch(rf"helve {re.escape(VERSION)} \(go.*, linux/arm64\)\n", done.stdout)


@pytest.mark.parametrize("emulator", EMULATORS)
def test_go_program_on_aarch64(emulator, tmp_path):
    variables = {**os.environ, "GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-trimpath", "-o", tmp_path / "hello", "./examples/hello"], cwd=ROOT, env=variables, check=True)
    process = subprocess.Popen([emulator, tmp_path / "hello", "--http", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        assert urllib.request.urlopen(url, b"world", timeout=30).read() == b"Hello world!"
    finally:
        process.terminate()
        assert process.wait(30) == 0
