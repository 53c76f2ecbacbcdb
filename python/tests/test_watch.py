"""The watch of `helve run --reload`: which files count, and which changes."""

import os

import pytest
from helve._watch import Watch


@pytest.fixture
def project(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "sub" / "b.py").write_text("2")
    return tmp_path


def names(watch, project):
    return [os.path.relpath(p, project) for p in watch.settled()] if watch.touched() else []


def test_changes(project):
    watch = Watch([project])
    assert watch.count() == 2 and names(watch, project) == []
    (project / "a.py").write_text("3")  # of the same size, and perhaps of the same time
    assert names(watch, project) == ["a.py"]
    assert names(watch, project) == []
    (project / "new.py").write_text("")
    (project / "sub" / "b.py").unlink()
    (project / "notes.txt").write_text("x")
    assert names(watch, project) == ["new.py", "sub/b.py"]
    (project / "deep").mkdir()
    (project / "deep" / "c.py").write_text("")
    assert names(watch, project) == ["deep/c.py"]


def test_the_same_content_is_no_change(project):
    watch = Watch([project])
    os.utime(project / "a.py", ns=(1, 1))
    assert watch.touched() and watch.settled() == []
    assert not watch.touched()


@pytest.mark.parametrize("place", [".git", "__pycache__", "node_modules", "venv", "env-with-another-name"])
def test_what_is_left_out(project, place):
    (project / place).mkdir()
    if place.startswith("env-"):
        (project / place / "pyvenv.cfg").write_text("")
    (project / place / "x.py").write_text("")
    assert Watch([project]).count() == 2


def test_files_elsewhere(project, tmp_path_factory):
    beside = tmp_path_factory.mktemp("elsewhere") / "serve.yaml"
    beside.write_text("a")
    watch = Watch([project], [beside])
    other, late = beside.with_name("lib.py"), beside.with_name("late.py")
    other.write_text("b")
    late.write_text("b")
    os.utime(other, ns=(1, 1))
    os.utime(late, ns=(3, 3))
    watch.add([str(other)], 2)
    assert not watch.touched()
    watch.add([str(late)], 2)  # the program may have read the text before
    assert watch.touched() and [os.path.basename(p) for p in watch.settled()] == ["late.py"]
    assert not watch.touched()
    beside.write_text("c")
    other.write_text("d")
    assert watch.touched() and [os.path.basename(p) for p in watch.settled()] == ["lib.py", "serve.yaml"]
