"""The versions of the package, of the binary and of the Go module."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import helve
from helve import _driver, _version, serve
from helve.serve.exceptions import RayServeException

ROOT = Path(__file__).resolve().parents[2]


def test_go_module_has_the_version_of_the_package():
    assert re.search(r'^const Version = "(.+)"$', (ROOT / "run.go").read_text(), re.M)[1] == helve.__version__


def test_binary_has_the_version_of_the_package():
    version, built = _version.of_binary(_driver.binary())
    assert version == helve.__version__ and re.fullmatch(r"go\S+, \w+/\w+", built)


def start():
    try:
        serve.start(http_options={"port": None})
    finally:
        serve.shutdown()
        _driver._http = None


@pytest.fixture
def other_version(monkeypatch):
    """The package takes itself for one of another release."""
    monkeypatch.setattr(helve, "__version__", "99.0")
    monkeypatch.setattr(_driver, "__version__", "99.0")


def test_binary_of_another_version(other_version):
    with pytest.raises(RayServeException, match=r"the node did not start: \S+/_bin/helve is helve \S+, and the package in \S+ is helve 99\.0: build the binary of this checkout again: pip install -e \S+$"):
        start()


def test_named_binary_of_another_version(other_version, monkeypatch):
    monkeypatch.setenv("HELVE_BINARY", _driver.binary())
    with pytest.raises(RayServeException, match=r"is helve 99\.0: unset HELVE_BINARY, which names that binary, or have it name one of the package's version"):
        start()


def test_binary_of_another_version_in_an_installation(other_version, monkeypatch):
    monkeypatch.setattr(_version, "package", lambda: "/nowhere/site-packages/helve")
    with pytest.raises(RayServeException, match=r"install the package again: pip install --force-reinstall --no-deps helve-serve==99\.0"):
        start()


SCRIPT = "#!/bin/sh\n[ $1 = --version ] && echo helve 0.0.1 && exit; exit 3\n"  # a release whose node refuses to start


@pytest.mark.parametrize(
    "content, mode, says",
    [
        pytest.param(SCRIPT, 0o755, "it ended with exit status 3; {path} is helve 0.0.1, and the package in", id="refuses"),
        pytest.param("#!/bin/sh\necho no\n", 0o755, "{path} is no binary of Helve: its --version prints 'no' and ends with status 0; unset HELVE_BINARY", id="another program"),
        pytest.param("\x7fELF of another machine", 0o755, "{path}: Exec format error (it is for another kind of machine than this one", id="another machine"),
        pytest.param(SCRIPT, 0o644, "{path}: Permission denied; unset HELVE_BINARY", id="not executable"),
    ],
)
def test_file_that_is_no_binary(content, mode, says, tmp_path, monkeypatch):
    path = tmp_path / "helve"
    path.write_text(content)
    path.chmod(mode)
    monkeypatch.setenv("HELVE_BINARY", str(path))
    with pytest.raises(RayServeException) as e:
        start()
    assert says.format(path=path) in str(e.value)


def command(*args, **variables):
    return subprocess.run([sys.executable, "-m", "helve", *args], capture_output=True, text=True, env={**os.environ, **variables}, timeout=60)


def test_version_in_one_line():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"helve {helve.__version__}\n", "")


def test_versions_of_all():
    done = command("version")
    package, binary, python = done.stdout.splitlines()
    assert done.returncode == 0 and package == f"helve {helve.__version__} at {os.path.dirname(helve.__file__)}"
    assert binary.startswith(f"binary {helve.__version__} at {_driver.binary()}, go") and python.endswith(f" at {sys.executable}")


def test_versions_with_another_binary(tmp_path):
    path = tmp_path / "helve"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    done = command("version", HELVE_BINARY=str(path))
    assert done.returncode == 1 and f"binary 0.0.1 at {path}\n" in done.stdout and "unset HELVE_BINARY" in done.stdout.splitlines()[-1]
