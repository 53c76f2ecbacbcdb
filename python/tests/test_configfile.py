"""Files of applications: their meaning, and the line of each mistake."""

import os

import pytest
from helve import _configfile
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
    ("", "f.yaml:1: must have fields such as applications"),
    ("a: [", "f.yaml:1: expected the node content"),
    ("applications: []", "f.yaml:1: applications: must be a list with one application or more"),
    ("import_path: a:b", "f.yaml:1: an application is an item of the list `applications:`"),
    ("\nhttp_option: {}\n" + APPLICATION, "f.yaml:2: http_option: the file has no such field; did you mean 'http_options'?"),
    (APPLICATION + "http_options:\n  host: x\n  prt: 1", "f.yaml:5: prt: http_options has no such field; did you mean 'port'?"),
    (APPLICATION + "http_options:\n  host: x\n  port: 70000", "f.yaml:5: http_options: port: must be at most 65535, is 70000"),
    (APPLICATION + "http_options:\n  port: 1\n  port: 2", "f.yaml:5: port: is in line 4 too"),
    (APPLICATION + "grpc_options:\n  grpc_servicer_functions: [x]", "f.yaml:3: grpc_options: is not there: there is no gRPC ingress"),
    (APPLICATION + "target_capacity: 50", "f.yaml:3: target_capacity: is not there: leave it out"),
    (APPLICATION + "proxy_location: Moon", "f.yaml:3: proxy_location: must be Disabled, HeadOnly, EveryNode, is 'Moon'"),
    (APPLICATION + "logging_config:\n  log_level: LOUD", 'f.yaml:4: logging_config: log_level: Got "LOUD" for log_level'),
    (APPLICATION + "logging_config:\n  levl: x", "f.yaml:4: logging_config: levl: there is no such field"),
    ("applications:\n- name: x", "f.yaml:2: import_path: is missing"),
    ("applications:\n- name: x\n  import_path: x", "f.yaml:3: import_path: must be MODULE:APPLICATION"),
    ("applications:\n- name: ''\n  import_path: a:b", "f.yaml:2: name: must be a text that is not empty"),
    (APPLICATION + "  route_prefix: x", "f.yaml:3: Invalid route_prefix 'x', must start with a forward slash"),
    (APPLICATION + "  port: 8000", "f.yaml:3: port: is of all applications: write it in http_options of the file"),
    (APPLICATION + "- import_path: c:d", "f.yaml:3: two applications have the name 'default', this one and that of line 2"),
    (APPLICATION + "- import_path: c:d\n  name: x\n", "f.yaml:3: two applications have the route_prefix '/'"),
    (APPLICATION + "  autoscaling_policy:\n    policy_function: x", "f.yaml:3: autoscaling_policy: is not there: replicas do not scale by themselves yet"),
    (APPLICATION + "  external_scaler_enabled: true", "f.yaml:3: external_scaler_enabled: is not there"),
    (APPLICATION + "  runtime_env:\n    env_vars:\n      A: 1", "f.yaml:5: runtime_env['env_vars'] must be of type Dict[str, str], but 'A' has the value 1"),
    (APPLICATION + "  runtime_env:\n    env_vars: {}\n    working_dir: /not/there", "f.yaml:5: runtime_env: working_dir: there is no /not/there"),
    (APPLICATION + "  runtime_env:\n    py_modules: [/, /not/there]", "f.yaml:4: runtime_env: py_modules: there is no /not/there"),
    (APPLICATION + "  runtime_env:\n    conda: x", "f.yaml:4: runtime_env['conda'] is not there"),
    (APPLICATION + "  args: 3", "f.yaml:3: args: must have fields, is 3"),
    (APPLICATION + "  deployments:\n  - num_replicas: 3", "f.yaml:4: a deployment must have a name"),
    (APPLICATION + "  deployments:\n  - name: A\n    num_replica: 3", "f.yaml:5: num_replica: deployment 'A' has no such field; did you mean 'num_replicas'?"),
    (APPLICATION + "  deployments:\n  - name: A\n    autoscaling_config:\n      min_replica: 3", "f.yaml:6: min_replica: autoscaling_config of deployment 'A' has no such field; did you mean 'min_replicas'?"),
    (APPLICATION + "  deployments:\n  - name: A\n    request_router_config: {a: 3}", "f.yaml:5: a: request_router_config of deployment 'A' has no such field"),
    (APPLICATION + "  deployments:\n  - name: A\n  - name: A", "f.yaml:5: deployment 'A' is twice in this application"),
    ("a: &x\n  b: *x\n", "f.yaml:1: the value has itself inside"),
    ("a: !!python/object:os.system {}", "f.yaml:1: a value with the tag '!!python/object:os.system': must be plain"),
    ("a: !!python/name:os.system ''", "f.yaml:1: could not determine a constructor for the tag"),
    ("a: 1\n---\nb: 2", "f.yaml:2: but found another document"),
    ("a: 1\nb: \0\n", "f.yaml:2: has the character #x0000"),
    ("a: 1\nb:\n\tc: 1", "f.yaml:3: found character '\\t'"),
    ("? [a, b]\n: c\n", "f.yaml:1: the name of a field must be a text"),
    ("applications:\n- name: 2020-13-45\n", "f.yaml:2: '2020-13-45' cannot be read as !!timestamp; in quotes it is a text"),
    ("a: !!int foo", "f.yaml:1: 'foo' cannot be read as !!int"),
    ("a: !!bool foo", "f.yaml:1: 'foo' cannot be read as !!bool"),
    ("a: !!timestamp foo", "f.yaml:1: 'foo' cannot be read as !!timestamp"),
    ("a: " + "9" * 5000, f"f.yaml:1: '{'9' * 40}...' cannot be read as !!int"),
    ("a: " + "[" * 5000 + "]" * 5000, "f.yaml:1: has too many values inside each other"),
    ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")), "f.yaml:1: the file has more than 100,000 values"),
    ("applications:\n- &x\n  import_path: a:b\n- <<: *x\n", "f.yaml:4: two applications have the name 'default', this one and that of line 2"),
    ("applications:\n- import_path: 3", "f.yaml:2: import_path: must be a text, is 3"),
    (APPLICATION + "  deployments: ''", "f.yaml:3: deployments: must be a list"),
    (APPLICATION + "logging_config: 3", "f.yaml:3: logging_config: must be a dict"),
])
def test_mistakes_have_their_line(tmp_path, monkeypatch, text, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(Mistake) as e:
        _configfile.read("f.yaml")
    assert str(e.value).startswith(error)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Mistake, match=":2: is no text in UTF-8: invalid start byte"):
        _configfile.read(str(path))


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
    ("  deployments:\n  - name: Modl\n", "f.yaml:4: application 'default' has no deployment 'Modl'; did you mean 'Model'?; it has Model"),
    ("  deployments:\n  - name: Model\n    num_replicas: 2\n    max_ongoing_requests: 0\n", "f.yaml:6: deployment 'Model': max_ongoing_requests: "),
    ("  deployments:\n  - name: Model\n    ray_actor_options:\n      num_cpus: 1\n      num_gpu: 1\n", "f.yaml:7: deployment 'Model': "),
    ("  args: {a: 1}\n", "f.yaml:3: apps:model: it is an application already, and takes no arguments"),
])
def test_mistakes_that_the_code_tells(project, text, error):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:model\n" + text)
    done = helve("run", "--dry-run", "f.yaml", cwd=project)
    assert done.stderr.startswith("error: " + error) and done.returncode == 2


@pytest.mark.parametrize("args", [["--dry-run"], ["--http", "none"]])
def test_a_user_config_for_a_class_without_reconfigure(project, args):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:build\n  args: {word: a}\n  deployments:\n  - name: Greeter\n    user_config: {a: 1}\n")
    done = helve("run", *args, "f.yaml", cwd=project)
    assert done.stderr == "error: f.yaml:6: user_config is set, but Greeter has no method reconfigure(user_config)\n" and done.returncode == 2


def test_an_argument_of_a_builder_has_its_line(project):
    (project / "f.yaml").write_text("applications:\n- import_path: apps:build\n  args:\n    word: a\n    times: many\n")
    done = helve("run", "--dry-run", "f.yaml", cwd=project)
    assert done.stderr == "error: f.yaml:5: apps:build: times: must be an int, is 'many'\n"


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

    @pytest.mark.parametrize("fields, error", [
        (["autoscaling_config:", "  min_replicas: -1"], ":6: deployment 'Model': autoscaling_config.min_replicas: Input should be greater"),
        (["autoscaling_config: {", "  min_replicas: 3}"], ":6: deployment 'Model': autoscaling_config: max_replicas (1) must be greater"),
        (["num_replicas: 1", "backpressure_config:", "  x: 1"], ":7: deployment 'Model': backpressure_config.x: "),
        (["request_router_config:", "  request_router_class: foo"], ":5: deployment 'Model': request_router_config: Got invalid import path 'foo'"),
    ])
    def test_a_mistake_in_a_group_has_its_line(self, tmp_path, fields, error):
        with pytest.raises(Mistake) as e:
            self.changed(tmp_path, fields)
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
