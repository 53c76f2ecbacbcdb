"""Files of applications: their meaning, and the line of each mistake."""

import os

import pytest
from helve import _configfile, _secret
from helve._flags import Mistake
from helve.serve import _checks
from programs import helve, output, program
from running import Running, ask

APPS = """
    import os
    from helve import serve

    @serve.deployment(num_replicas=2, user_config={"a": 1, "b": 2}, ray_actor_options={"num_cpus": 0.5, "resources": {"x": 0}})
    class Model:
        def __init__(self):
            self.config = None

        def reconfigure(self, config):
            self.config = config

        def __call__(self, x: str) -> str:
            return repr(self.config)

    @serve.deployment
    class Greeter:
        def __init__(self, word):
            self.word = word

        def __call__(self, x: str) -> str:
            return f"{self.word} {os.environ.get('PLACE')}"

    model = Model.bind()

    def build(word: str, times: int = 1):
        return Greeter.bind(word * times + os.environ.get("PLACE", ""))
"""
GOOD = """
    proxy_location: EveryNode
    http_options: {host: 127.0.0.1, port: 8000, request_timeout_s: 30}
    grpc_options: {port: 9000, grpc_servicer_functions: []}
    logging_config: {log_level: DEBUG}
    applications:
    - name: model
      route_prefix: /model
      import_path: apps:model
      external_scaler_enabled: false
      deployments:
      - name: Model
        num_replicas: 1
        user_config: {a: 3}
        ray_actor_options: {num_cpus: 0.25}
    - name: greeter
      route_prefix: /greeter
      import_path: apps.build
      args: {word: hi, times: 2}
      runtime_env: {env_vars: {PLACE: here}}
"""


@pytest.fixture
def project(tmp_path):
    program(tmp_path, "apps.py", APPS)
    return tmp_path


def test_a_file_runs(project):
    program(project, "serve.yaml", GOOD)
    with Running("run", "--port", "0", "serve.yaml", cwd=project) as run:
        base = run.wait("ready at (http://[^/]+)/")[1]
        run.wait("ready at")
        assert ask(base + "/model") == "{'a': 3}"
        assert ask(base + "/greeter") == "hihihere here"
        code, text = run.end()
        assert code == 0, text


def test_a_dry_run_shows_what_would_run(project):
    program(project, "serve.yaml", GOOD)
    assert output(helve("run", "serve.yaml", "--dry-run", cwd=project)) == (
        "application model  apps:model  /model\n"
        "  deployment Model  1 replica  ray_actor_options={'num_cpus': 0.25, 'resources': {'x': 0}}, user_config={'a': 3}\n"
        "application greeter  apps:build  /greeter\n"
        "  deployment Greeter  1 replica\n"
    )


APPLICATION = "applications:\n- import_path: a:b\n"


@pytest.mark.parametrize("text, error", [
    ("", "f.yaml:1:1: the file is empty"),
    ("a: [", "f.yaml:1:4: is no YAML"),
    ("applications: []", "f.yaml:1:1: applications: must be a list with one application or more"),
    (APPLICATION + "  runtime_env:\n    env_vars: {}\n    working_dir: /not/there", "f.yaml:5:5: runtime_env: working_dir: there is no /not/there"),
    (APPLICATION + "  runtime_env:\n    py_modules: [/, /not/there]", "f.yaml:4:5: runtime_env: py_modules: there is no /not/there"),
    (APPLICATION + "  runtime_env:\n    working_dir: s3://a/b.zip", "f.yaml:4:5: runtime_env['working_dir']: nodes fetch nothing from s3://"),
    (APPLICATION + "  args: {a: '${env:HELVE_NONE}'}", "f.yaml:3:3: ${env:HELVE_NONE}: there is no such environment variable"),
    (APPLICATION + "  deployments:\n  - name: A\n    num_replica: 3", "f.yaml:5:5: deployment \"A\": num_replica: there is no such option; did you mean num_replicas?\n   5 |     num_replica: 3\n     |     ^~~~~~~~~~~"),
])
def test_mistakes_have_their_place(tmp_path, monkeypatch, text, error):
    """All mistakes of the reader are tested in internal/config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(Mistake) as e:
        _configfile.read("f.yaml")
    assert str(e.value).startswith(error)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Mistake, match=":2:4: is no text in UTF-8"):
        _configfile.read(str(path))


def test_placeholders(tmp_path, monkeypatch):
    monkeypatch.setenv("HELVE_TEST_KEY", "hunter2")
    path = tmp_path / "f.yaml"
    path.write_text(APPLICATION + "  args: {a: 'x ${env:HELVE_TEST_KEY}'}\n  runtime_env: {env_vars: {B: '${env:HELVE_TEST_KEY}'}}\n")
    app = _configfile.read(str(path)).apps[0]
    _secret.use({})
    assert app.arguments == {"a": "x hunter2"} and app.runtime_env == {"env_vars": {"B": "${!env:HELVE_TEST_KEY}"}}


def test_a_mapping_with_the_fields_of_another_may_be_used_twice(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("""
applications:
- import_path: a:b
  deployments:
  - name: A
    ray_actor_options: &one {num_cpus: 1, memory: 5}
  - name: B
    ray_actor_options: &two {<<: *one, num_cpus: 2}
  - name: C
    ray_actor_options: *two
""")
    options = {name: own["fields"]["ray_actor_options"] for name, own in _configfile.read(str(path)).apps[0].deployments.items()}
    assert options == {"A": {"num_cpus": 1, "memory": 5}, "B": {"num_cpus": 2, "memory": 5}, "C": {"num_cpus": 2, "memory": 5}}


@pytest.mark.parametrize("text, error", [
    ("  deployments:\n  - name: Modl\n", "f.yaml:4:5: application 'default' has no deployment 'Modl'; did you mean 'Model'?; it has Model"),
    ("  deployments:\n  - name: Model\n    num_replicas: 2\n    max_ongoing_requests: 0\n", "f.yaml:6:27: deployment \"Model\": max_ongoing_requests: "),
    ("  deployments:\n  - name: Model\n    ray_actor_options:\n      num_cpus: 1\n      num_gpu: 1\n", "f.yaml:7:7: deployment \"Model\": "),
    ("  args: {a: 1}\n", "f.yaml:3:10: apps:model: it is an application already, and takes no arguments"),
])
def test_mistakes_that_the_code_tells(project, text, error):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:model\n" + text)
    done = helve("run", "--dry-run", "f.yaml", cwd=project)
    assert done.stderr.startswith("error: " + error) and done.returncode == 2


@pytest.mark.parametrize("args", [["--dry-run"], ["--http", "none"]])
def test_a_user_config_for_a_class_without_reconfigure(project, args):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:build\n  args: {word: a}\n  deployments:\n  - name: Greeter\n    user_config: {a: 1}\n")
    done = helve("run", *args, "f.yaml", cwd=project)
    assert done.stderr == "error: f.yaml:6:5: user_config is set, but Greeter has no method reconfigure(user_config)\n" and done.returncode == 2


def test_an_argument_of_a_builder_has_its_line(project):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:build\n  args:\n    word: a\n    times: many\n")
    done = helve("run", "--dry-run", "f.yaml", cwd=project)
    assert done.stderr == "error: f.yaml:5:5: apps:build: times: must be an int, is 'many'\n"


class TestOptions:
    """The options of a file over those of the code."""

    def changed(self, tmp_path, fields, **options):
        from helve import serve

        class Model:
            def reconfigure(self, config):
                pass

        path = tmp_path / "f.yaml"
        path.write_text(APPLICATION + "  deployments:\n  - name: Model\n" + "".join(f"    {line}\n" for line in fields))
        file = _configfile.read(str(path))
        return _configfile.changed(file, file.apps[0], "Model", serve.deployment(**options)(Model))._options

    @pytest.mark.parametrize("fields, options, error", [
        (["autoscaling_config:", "  min_replicas: 3"], {"autoscaling_config": {"max_replicas": 2}}, ":6:7: deployment 'Model': autoscaling_config: max_replicas (2) must be greater"),
        (["max_replicas_per_node: 2"], {"placement_group_bundles": [{"CPU": 1}]}, ":5:5: deployment 'Model': Setting max_replicas_per_node is not allowed"),
    ])
    def test_a_mistake_that_the_code_makes_one_has_its_line(self, tmp_path, fields, options, error):
        with pytest.raises(Mistake) as e:
            self.changed(tmp_path, fields, **options)
        assert str(e.value).startswith(str(tmp_path / "f.yaml") + error)

    def test_groups_merge_and_null_clears(self, tmp_path):
        got = self.changed(
            tmp_path, ["ray_actor_options: {num_cpus: 2, resources: null}"], ray_actor_options={"num_cpus": 1, "memory": 5, "resources": {"x": 1}},
        )
        assert got["ray_actor_options"] == {"num_cpus": 2, "memory": 5}

    def test_a_user_config_is_replaced(self, tmp_path):
        assert self.changed(tmp_path, ["user_config: {a: 1}"], user_config={"b": 2})["user_config"] == {"a": 1}

    def test_null_is_the_default(self, tmp_path):
        assert "user_config" not in self.changed(tmp_path, ["user_config: null"], user_config={"b": 2})

    def test_a_number_takes_the_place_of_autoscaling(self, tmp_path):
        got = self.changed(tmp_path, ["num_replicas: 3"], autoscaling_config={"min_replicas": 1, "max_replicas": 2})
        assert got["num_replicas"] == 3 and "autoscaling_config" not in got

    def test_autoscaling_takes_the_place_of_a_number(self, tmp_path):
        got = self.changed(tmp_path, ["autoscaling_config: {min_replicas: 1, max_replicas: 2}"], num_replicas=3)
        assert "num_replicas" not in _checks.for_node("Model", got) and got["autoscaling_config"].max_replicas == 2


def test_the_file_is_not_there():
    with pytest.raises(Mistake, match="No such file"):
        _configfile.read(os.path.join("not", "there.yaml"))
