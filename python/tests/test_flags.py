"""The flags of `helve run`: the Python package and the binary have the same ones, and docs/command.md shows the help."""

import re
import subprocess
import sys
from pathlib import Path

import helve as package
import pytest
from helve import _flags
from programs import ENVIRONMENT, helve, output

BINARY = Path(package.__file__).parent / "_bin" / "helve"


def help_of(*args):
    return subprocess.run([BINARY, *args, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_binary_has_the_same_flags():
    shown = {}
    for line in help_of("run").splitlines():
        found = re.match(r"\s+(?:-(\w), )?--([\w-]+)(\[=\"\w+\"\])?( \w+)?(\[=\"\w+\"\])?  ", line)
        if found:
            shown[found[2]] = (bool(found[4]) and not found[5], found[1])
    own = {**_flags.OWN, **_flags.NODE, **_flags.GO}
    own.pop("blocking")  # accepted, because programs for Ray Serve have it
    shown.pop("help")
    assert {name: value for name, (value, _) in shown.items()} == own
    assert {short: name for name, (_, short) in shown.items() if short} == {k: v for k, v in _flags.SHORT.items() if k != "h"}


def test_the_node_takes_the_flags_that_are_passed_on():
    text = help_of("node")
    for name in _flags.NODE:
        assert f"--{name} " in text or f"--{name}[" in text


class TestParse:
    def parse(self, line, **environment):
        return _flags.parse(line.split(), environment)

    def test_flags_may_be_anywhere(self):
        c = self.parse("--name a m:a k=v --reload m:b --route-prefix /b x=y -v --reload-dir d --reload-dir=e")
        assert [(t.path, t.name, t.route_prefix, t.arguments) for t in c.targets] == [("m:a", "a", None, ["k=v"]), ("m:b", None, "/b", ["x=y"])]
        assert c["reload"] and c["reload-dir"] == ["d", "e"] and c.node() == ["--verbose"]

    def test_a_script_has_what_follows_it(self):
        c = self.parse("--port 3 dir/s.py --port 4 m:a")
        assert (c.script, c.arguments, c["port"]) == ("dir/s.py", ["--port", "4", "m:a"], "3")

    def test_a_value_may_look_like_a_program(self):
        c = self.parse("--name a:b --app-dir x.py m:a")
        assert [(t.path, t.name) for t in c.targets] == [("m:a", "a:b")] and c["app-dir"] == "x.py"

    def test_variables_are_under_flags(self):
        c = self.parse("--port 1 --http a:1 m:a", HELVE_HTTP="b:2", HELVE_PORT="3", HELVE_NAME="n", HELVE_RELOAD="true", HELVE_RELOAD_DIR="a:b")
        assert (c["http"], c["port"], c.targets[0].name, c["reload"], c["reload-dir"]) == ("a:1", "1", "n", True, ["a", "b"])
        assert self.parse("--reload=false m:a", HELVE_RELOAD="1")["reload"] is None
        assert self.parse("--verbose=false m:a", HELVE_VERBOSE="1").node() == ["--verbose=false"]  # the node reads the variable, too

    def test_flags_of_the_node_keep_their_values(self):
        c = self.parse("--access-log --trust-forwarded 10.0.0.0/8 --trust-forwarded unix --request-timeout=3s m:a")
        assert c.node() == ["--access-log=text", "--trust-forwarded=10.0.0.0/8,unix", "--request-timeout=3s"]

    @pytest.mark.parametrize("line, error", [
        ("", "run what? a script"), ("--name", "--name needs a value"), ("x", "x: must be a script"), ("a.yaml b.yaml", "run takes one file of applications"),
        ("a.yaml m:a", "a.yaml and m:a: run takes a file of applications, or applications"), ("--verbos m:a", "did you mean '--verbose'?"),
        ("--name a s.yaml", "a file has name and route_prefix"), ("--reload=x m:a", "--reload: must be 1 or 0"),
    ])
    def test_mistakes(self, line, error):
        with pytest.raises(_flags.Mistake, match=re.escape(error)):
            self.parse(line)


def test_the_program_of_the_page(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "command.md").read_text()
    (tmp_path / "app.py").write_text(re.search(r"```python\n(.*?)```", page, re.S)[1])
    assert "Greeter" in helve("run", "--dry-run", "app:build", "word=Servus", "times=2", "seed=none", cwd=tmp_path).stdout
    shown = re.findall(r"^\$ helve (run app:build .*)\n(error: .*)$", page, re.M)
    assert len(shown) == 2
    for line, error in shown:
        assert helve(*line.split(), cwd=tmp_path).stderr == error + "\n"


def test_a_first_project_passes_its_test(tmp_path):
    assert "pytest" in output(helve("init", "first", cwd=tmp_path))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path / "first", env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert "2 passed" in output(done)
    again = helve("init", "first", cwd=tmp_path)
    assert again.returncode == 1 and "app.py, .gitignore, requirements.txt, test_app.py already, which are not overwritten" in again.stderr
    assert helve("init", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("text, want", [
    ("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), (":80", ("", 80)), ("none", ("", None)), ("", ("", None)),
])
def test_addresses(text, want):
    assert _flags.address("--http", text) == want


@pytest.mark.parametrize("text", ["127.0.0.1", "a:b", "a:-1", "a:65536", "a:\u00b2", "a:\u0663", "unix:s", "a: 1"])
def test_bad_addresses(text):
    with pytest.raises(_flags.Mistake, match="must be HOST:PORT"):
        _flags.address("--http", text)
