"""The notebook, run in a kernel cell by cell: make test-examples."""

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FILE = Path(__file__).with_name("handles.ipynb")
sys.path.append(str(Path(__file__).resolve().parents[2] / "python" / "tests"))

from ports import free_port  # noqa: E402

# The values that cells show, by the ids of the cells. The other cells are only run.
VALUES = {
    "await": "Hello Ada!",
    "many": [3, 5, 7],
    "update": "Good morning Ada!",
    "compose": "HELLO ADA!",
    "http": ("Good morning Ada!", "HELLO ADA!"),
    "stream": [0, 1, 4, 9, 16, 25],
    "delete": ["default", "loud"],
}
TEXTS = {"error": "has no len()", "status": "RUNNING"}


@pytest.fixture(scope="module")
def cells():
    """The cells by their ids, after they have run. A cell that fails ends the test with its error."""
    notebook = nbformat.read(FILE, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FILE.parent)}})
    client.execute(env=dict(os.environ, PORT=str(free_port())))
    return {cell.id: cell for cell in notebook.cells}


def shown(cell):
    """The text that a cell shows: the value of its last line, or else its printed text."""
    for output in cell.outputs:
        if output.output_type == "execute_result":
            return output.data["text/plain"]
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.parametrize("cell", VALUES)
def test_value(cells, cell):
    assert ast.literal_eval(shown(cells[cell])) == VALUES[cell]


@pytest.mark.parametrize("cell", TEXTS)
def test_text(cells, cell):
    assert TEXTS[cell] in shown(cells[cell])


def test_every_cell_ran(cells):
    code = [c for c in cells.values() if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))


def test_the_file_has_no_outputs():
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    left = [c.id for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count is not None)]
    assert not left, "clear the outputs of the notebook before it is committed"
