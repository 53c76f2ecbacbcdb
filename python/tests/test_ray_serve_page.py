"""docs/ray-serve.md: its lists are those of the table, and its program prints what the page says."""

import re

from ports import free_port
from programs import helve, output, program
from surface_page import PAGE, page

BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_lists_are_those_of_the_table():
    assert PAGE.read_text() == page(), "run python/tests/surface_page.py"


def test_the_program(tmp_path):
    [text] = [t for kind, t in BLOCKS if kind == "python" and "serve.run" in t]
    [printed] = [t for kind, t in BLOCKS if kind == "console" and not t.startswith("$")]
    port = free_port()
    text = text.replace("import requests", "import httpx as requests").replace("localhost:8000", f"127.0.0.1:{port}")
    assert output(helve("run", "--ray-compat", "--port", port, program(tmp_path, "script.py", text), cwd=tmp_path)) == printed


def test_the_program_has_no_name_that_is_not_there(tmp_path):
    for i, (kind, text) in enumerate(BLOCKS):
        if kind == "python":
            program(tmp_path, f"block{i}.py", text)
    assert "Helve has all" in output(helve("ray-check", ".", cwd=tmp_path))


def test_install_as_in_a_conftest(tmp_path):
    [text] = [t for kind, t in BLOCKS if kind == "python" and "install()" in t]
    script = program(tmp_path, "script.py", text + "\nimport ray\nprint(ray.serve.__name__)\n")
    assert output(helve("run", script, cwd=tmp_path)) == "helve.serve\n"
