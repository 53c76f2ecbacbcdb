"""`helve ray-check`."""

import json
import textwrap

import pytest
from programs import helve, output, program

from helve import _raycheck


def found(source):
    """The findings of a program: (line, name, text)."""
    return [(f.line, f.name, f.instead) for f in sorted(_raycheck.check(textwrap.dedent(source).lstrip("\n"), "f.py").found)]


def names(source):
    return [(line, name) for line, name, _ in found(source)]


class TestNames:
    @pytest.mark.parametrize("source", [
        "import ray\nray.init(); ray.get(ray.put(1))",
        "from ray import serve\nserve.run(serve.deployment(print).bind(), name='x')",
        "import ray.serve as s\ns.config.AutoscalingConfig(min_replicas=1)",
        "from ray.serve.handle import DeploymentHandle as H, DeploymentResponse\nH.remote",
        "from ray.util.metrics import Counter",
        "import ray.cloudpickle as p\np.dumps(1)",
        "from ray.exceptions import RayTaskError, GetTimeoutError",
        "from ray.serve import *",
        "import os, json\nos.path.join('ray', 'data')",
        "ray = 3\nray.data",
        "from . import ray\nfrom .ray import data",
    ])
    def test_a_program_that_runs_has_none(self, source):
        assert found(source) == []

    @pytest.mark.parametrize("source, want", [
        ("import ray.data", [(1, "ray.data")]),
        ("import ray\n\nray.data.range(3)", [(3, "ray.data")]),
        ("from ray import serve, tune", [(1, "ray.tune")]),
        ("from ray.train.torch import TorchTrainer", [(1, "ray.train.torch.TorchTrainer")]),
        ("from ray import serve as s\ns.get_deployment_actor('x')", [(2, "ray.serve.get_deployment_actor")]),
        ("from helve import serve\nserve.get_deployment_actor('x')", [(2, "helve.serve.get_deployment_actor")]),
        ("from ray.serve.llm import LLMConfig", [(1, "ray.serve.llm.LLMConfig")]),
        ("from ray.serve import llm", [(1, "ray.serve.llm")]),
        ("import ray\nray.util.queue.Queue()", [(2, "ray.util.queue")]),
        ("from ray._private.test_utils import wait_for_condition, other", [(1, "ray._private.test_utils.other")]),
        ("from ray._private.worker import x", [(1, "ray._private.worker.x")]),
        ("from ray.serve._private.common import DeploymentID", [(1, "ray.serve._private.common.DeploymentID")]),
        ("from ray.serve.config import GangSchedulingConfig", [(1, "ray.serve.config.GangSchedulingConfig")]),
        ("def f():\n    return ray.tune\nimport ray", [(2, "ray.tune")]),
    ])
    def test_names_that_are_not_there(self, source, want):
        assert names(source) == want

    def test_a_typo_says_what_may_be_meant(self):
        [(line, name, text)] = found("from ray import serve\nserve.deploymnt")
        assert (line, name) == (2, "ray.serve.deploymnt") and "did you mean 'deployment'?" in text

    def test_texts_say_what_to_use_instead(self):
        [(_, _, text)] = found("from ray.util import placement_group")
        assert "placement_group_bundles" in text


class TestOptions:
    def test_refused_options_of_deployments(self):
        assert names("""
            from ray import serve

            @serve.deployment(num_replicas=2, gang_scheduling_config={})
            class A:
                pass

            A.options(deployment_actors=[], name="x").bind()
        """) == [(3, "option gang_scheduling_config"), (7, "option deployment_actors")]

    def test_options_of_handles_are_not_checked(self):
        assert found("from ray import serve\nserve.get_app_handle('x').options(stream=True, anything=1)") == []

    def test_parameters_that_are_not_there(self):
        assert found("from ray import serve\nserve.run(None, nam='x')") == [
            (2, "ray.serve.run(nam=...)", "ray.serve.run has no such parameter; did you mean 'name'?"),
        ]

    def test_own_options_of_deployments_are_fine(self):
        assert found("from helve import serve\n@serve.deployment(limits={'open_files': 100})\nclass A: pass") == []


class TestCommand:
    def test_directories_and_exit_status(self, tmp_path):
        for folder in ("pkg", "pkg/deep", ".venv", "env"):
            (tmp_path / folder).mkdir()
        (tmp_path / "env" / "pyvenv.cfg").write_text("")
        program(tmp_path, "pkg/good.py", "import ray\nray.init()\n")
        program(tmp_path, ".venv/other.py", "import ray.data\n")
        program(tmp_path, "env/other.py", "import ray.data\n")
        assert output(helve("ray-check", ".", cwd=tmp_path)).startswith("1 file: Helve has all 2 names of Ray")
        program(tmp_path, "pkg/deep/bad.py", "import ray\nray.tune\n")
        done = helve("ray-check", "pkg", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            "pkg/deep/bad.py:2:1: ray.tune: Helve serves deployments only; tune with the library of your choice, and load the model in a deployment",
            "1 use of what Helve does not have, in 2 files",
        ]

    def test_json(self, tmp_path):
        program(tmp_path, "bad.py", "import ray.rllib\n")
        done = helve("ray-check", "-o", "json", "bad.py", cwd=tmp_path)
        assert done.returncode == 1
        [row] = json.loads(done.stdout)
        assert (row["file"], row["line"], row["column"], row["name"]) == ("bad.py", 1, 1, "ray.rllib")

    def test_files_that_cannot_be_read(self, tmp_path):
        done = helve("ray-check", "missing.py", cwd=tmp_path)
        assert done.returncode == 2 and "missing.py: No such file or directory" in done.stderr
        program(tmp_path, "broken.py", "def\n")
        done = helve("ray-check", "broken.py", cwd=tmp_path)
        assert done.returncode == 1 and "broken.py:1:1: syntax: the file is no program of this version of Python" in done.stdout
