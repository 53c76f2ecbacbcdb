"""Programs for Ray Serve, unmodified, by `helve run --ray-compat`: each prints the output that Ray Serve has printed, which lies beside it
(`make ray-programs` prints it anew with Ray itself).
"""

from pathlib import Path

import pytest

from ports import free_port
from programs import helve, output

PROGRAMS = sorted(Path(__file__).with_name("ray_programs").glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_prints_the_output_of_ray_serve(tmp_path, path):
    port = free_port()
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("localhost:8000", f"localhost:{port}"))
    done = helve("run", "--ray-compat", "--port", port, copy, cwd=tmp_path)
    assert output(done) == path.with_suffix(".out").read_text(), done.stderr
