"""The search for the durable nodes of this user, in directories without a node."""

import fcntl
import os
import socket

import pytest

from helve import _find
from helve.serve.exceptions import RayServeException


class Places:
    """State directories and private directories as nodes leave them."""

    def __init__(self, at):
        self.at, self.open = at, []

    def private(self, name, state="", runs=True, mode=0o700):
        """A private directory. Its lock is held if its node runs."""
        path = self.at / f"helve-{name}"
        path.mkdir()
        (path / _find.SOCKET).touch()
        if state:
            (path / _find.DURABLE).write_text(state)
        mark = open(path / _find.MARK, "w")
        self.open.append(mark)
        if runs:
            fcntl.flock(mark, fcntl.LOCK_EX)
        path.chmod(mode)
        return str(path)

    def state(self, name, private="", kept=False):
        """A state directory, whose keeper runs if it is kept."""
        path = self.at / name
        path.mkdir(parents=True)
        if private:
            (path / _find.LINK).symlink_to(private)
        if kept:
            keeper = socket.socket(socket.AF_UNIX)
            self.open.append(keeper)
            keeper.bind(str(path / _find.KEEPER))
            keeper.listen()
        return str(path)


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HELVE_STATE_DIR", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "usual"))
    usual = _find._usual
    monkeypatch.setattr(_find, "_usual", lambda: usual().replace("/var/lib/helve", str(tmp_path / "usual" / "helve")))  # root may run a node there
    made = Places(tmp_path)
    yield made
    for file in made.open:
        file.close()


def test_nothing_is_there(places, monkeypatch):
    assert _find.durable() == [] and _find.running() == []
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(places.at / "none"))
    assert _find.durable() == [] and _find.running() == []


def test_a_node_that_runs(places):
    state = places.state("a")
    places.private("1", state)
    assert _find.durable() == _find.running() == [state] and _find.only() == state


def test_a_durable_node_is_before_others(places):
    state = places.state("a")
    other = places.private("0")
    places.private("1", state)
    assert _find.running() == [other, state] and _find.only() == state


def test_a_node_that_has_ended(places):
    places.private("1", places.state("a"), runs=False)
    assert _find.durable() == []


def test_a_node_that_is_started_again(places):
    """Its private directory has no owner for a moment, and its keeper runs."""
    state = places.state("a", kept=True)
    places.private("1", state, runs=False)
    assert _find.durable() == [state] and _find.kept(state)


def test_a_node_and_the_one_before(places):
    state = places.state("a")
    places.private("1", state, runs=False)
    places.private("2", state)
    assert _find.durable() == [state]


def test_two_nodes(places):
    states = [places.state(name) for name in "ab"]
    for name, state in zip("12", states):
        places.private(name, state)
    assert _find.durable() == states
    with pytest.raises(RayServeException, match="2 nodes of this user run here; choose one by the environment variable HELVE_NODE:") as e:
        _find.only()
    assert all(f"\n  HELVE_NODE={state}   " in str(e.value) for state in states)


@pytest.mark.parametrize("kept", [True, False])
def test_the_usual_directory(places, monkeypatch, kept):
    """Its node has a runtime directory that programs do not look into: for example, that of a unit of systemd."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1)
    monkeypatch.setattr(_find, "_private", lambda path: os.lstat(path))
    private = places.private("1", "usual/helve", runs=not kept)
    state = places.state("usual/helve", private, kept)
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(places.at / "none"))
    assert _find.durable() == [state] and _find.private(state) == private


def test_a_variable_names_one_of_two(places, monkeypatch):
    one, two = places.private("1", "a"), places.private("2", "b")
    states = [places.state("a", one), places.state("b", two)]
    for path, state in zip((one, two), states):
        with open(os.path.join(path, _find.DURABLE), "w") as f:
            f.write(state)
    monkeypatch.setenv("HELVE_STATE_DIR", states[1])
    assert _find.durable() == [states[1]]


def test_a_directory_of_another_user_or_open_to_them(places):
    places.private("1", places.state("a", kept=True), mode=0o755)
    assert _find.durable() == []


def test_where_names_lead(places):
    private = places.private("1")
    state = places.state("a", private)
    for name in (state, f"unix:{state}/node.sock", f"{state}/keeper.sock"):
        assert _find.directory(name) == state
    assert _find.private(state) == private and _find.private(private) == private


def test_a_state_directory_of_another_node(places, monkeypatch):
    """A node may have a state directory, and end with its program: for example, that of `helve run --state-dir`."""
    monkeypatch.setenv("HELVE_STATE_DIR", places.state("a", places.private("1")))
    assert _find.durable() == []
