"""Mistakes of new users, and what a terminal, a notebook and pytest show of them."""

import os
import signal
import socket
import subprocess
import sys
import traceback

import pytest

from helve import _guard, serve
from helve.serve._http_options import reachable
from programs import ENVIRONMENT, helve, own_lines, program


def run(path, **env):
    """A program that runs to its end, with its output on stderr."""
    return subprocess.run([sys.executable, str(path)], cwd=path.parent, capture_output=True, text=True, timeout=120, env={**os.environ, **env})


@pytest.mark.parametrize("text", [
    "@serve.deployment(num_replica=2)\nclass A: pass",
    "@serve.deployment(ray_actor_options={'runtime_env': {'pips': []}})\nclass A: pass",
    "serve.batch(max_batch_size='x')",
    "serve.start(http_options={'prt': 1})",
    "serve.runn",
    "from helve.serve.config import AutoScalingConfig",
])
def test_a_mistake_before_anything_runs_has_the_frames_of_the_program_alone(tmp_path, text):
    ran = run(program(tmp_path, "p.py", f"from helve import serve\n{text}\n"))
    assert ran.returncode == 1 and ran.stderr.count('  File "') == 1 and "p.py" in ran.stderr, ran.stderr


def test_one_suggestion_for_a_typo(tmp_path):
    ran = run(program(tmp_path, "p.py", "from helve import serve\nserve.runn\n"))
    assert ran.stderr.lower().count("did you mean") == 1 and "did you mean 'run'?" in ran.stderr


def test_several_applications_that_fail_show_no_frames_of_helve(tmp_path):
    text = """
    from helve import serve

    @serve.deployment(max_constructor_retry_count=1)
    class A:
        def __init__(self):
            raise ValueError("no weights")

    serve.start(http_options={"port": None})
    serve.run_many([serve.RunTarget(A.bind(), name=n, route_prefix=None) for n in "ab"])
    """
    ran = run(program(tmp_path, "p.py", text))
    assert ran.returncode == 1 and "no weights" in ran.stderr and "/helve/" not in ran.stderr, ran.stderr


def test_the_log_of_a_caller_has_the_frames_of_the_replica_that_raised(tmp_path):
    text = """
    import urllib.request
    from helve import serve

    @serve.deployment
    class Down:
        def __call__(self, x):
            raise KeyError(x)

    @serve.deployment
    class Up:
        def __init__(self, down):
            self.down = down

        async def __call__(self, request):
            return await self.down.remote("k")

    serve.start(http_options={"port": 0})
    serve.run(Up.bind(Down.bind()))
    try:
        urllib.request.urlopen(serve._driver_url())
    except urllib.error.HTTPError as e:
        print(e.code)
    """.replace("serve._driver_url()", "__import__('helve._driver')._driver._driver.control('http')['url']")
    ran = run(program(tmp_path, "p.py", text))
    assert ran.stdout == "500\n", ran.stderr
    up = [line for line in ran.stderr.splitlines() if line.startswith("(Up#")]
    assert "RemoteTraceback" not in ran.stderr and "direct cause" not in ran.stderr
    assert any("in replica Down#" in line for line in up) and up[-1].endswith("KeyError: 'k'")


def of_files(*names):
    """An exception that the last of a chain of functions has raised, in files of these names."""
    call = None
    for name in reversed(names):
        scope = {"call": call}
        exec(compile("def f():\n    call()" if call else "def f():\n    raise ValueError('x')", name, "exec"), scope)
        call = scope["f"]
    try:
        call()
    except ValueError as e:
        return e


@pytest.mark.parametrize("files, shown", [
    (["/v/site-packages/starlette/routing.py", "/v/site-packages/fastapi/routing.py", "app.py"], ["app.py"]),
    (["/v/site-packages/starlette/routing.py", "middleware.py", "/v/site-packages/fastapi/routing.py", "app.py"], ["middleware.py", "app.py"]),
    (["app.py", "/v/site-packages/starlette/responses.py"], ["app.py", "/v/site-packages/starlette/responses.py"]),
])
def test_frames_of_web_frameworks_that_lead_to_other_code_are_left_out(files, shown):
    text = _guard.trace(of_files(*files))
    assert [line.split('"')[1] for line in text.splitlines() if line.startswith('  File "') and __file__ not in line] == shown, text


class Shell:
    """The parts of IPython's shell that the handler uses."""

    custom_exceptions = ()

    def __init__(self):
        self.InteractiveTB = self
        self.shown = []

    def structured_traceback(self, kind, exc, tb, tb_offset=None):
        return ["head", *traceback.format_tb(tb), "".join(traceback.format_exception_only(kind, exc))]

    def _showtraceback(self, kind, exc, lines):
        self.shown.append("".join(lines))


def test_a_notebook_shows_the_cell_and_the_replica():
    @serve.deployment
    class A:
        def boom(self):
            raise ValueError("nb")

    handle = serve.run(A.bind(), _local_testing_mode=True)
    shell = Shell()
    try:
        handle.boom.remote().result()
    except ValueError as e:
        _guard._show_in_notebook(shell, type(e), e, e.__traceback__)
    finally:
        serve.shutdown()
    assert "/helve/" not in shell.shown[0] and shell.shown[0].count(__file__) >= 1


def test_pytest_shows_no_frames_of_helve(tmp_path):
    program(tmp_path, "test_it.py", """
    from helve import serve

    @serve.deployment
    class A:
        def __call__(self):
            raise ValueError("x")

    def test_it():
        serve.run(A.bind(), _local_testing_mode=True).remote().result()
    """)
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "1 failed" in ran.stdout and "responses.py" not in ran.stdout and "_call.py" not in ran.stdout, ran.stdout
    full = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "HELVE_TRACEBACKS": "full"},
    )
    assert "responses.py" in full.stdout


# ---- the command line


@pytest.mark.parametrize("target, says", [
    ("model", "write model.py for a script, or model:NAME"),
    ("model.py:app", "write model:app"),
    ("./model:app", "write helve run model:app"),
    ("sub/other:app", "write helve run --app-dir sub other:app"),
])
def test_targets_of_run_in_another_form(tmp_path, target, says):
    program(tmp_path, "model.py", "app = 1\n")
    (tmp_path / "sub").mkdir()
    program(tmp_path / "sub", "other.py", "app = 1\n")
    ran = helve("run", target, cwd=tmp_path)
    assert ran.returncode in (1, 2) and says in ran.stderr, ran.stderr


def test_help_names_the_commands_for_python_programs(tmp_path):
    assert "ray-check" in helve("--help", cwd=tmp_path).stdout
    shown = helve("run", "--help", cwd=tmp_path).stdout
    assert "MODULE:APPLICATION" in shown and "--access-log" in shown


def test_ray_check_of_a_place_without_programs(tmp_path):
    ran = helve("ray-check", tmp_path, cwd=tmp_path)
    assert ran.returncode == 2 and "no Python programs" in ran.stderr


def interrupted(command, tmp_path, env=None):
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, **(env or {})})


def await_line(p, text):
    """Reads stderr up to a line with a text. A program that ends before is a failure."""
    lines = []
    for line in p.stderr:
        if text in line:
            return
        lines.append(line)
    raise AssertionError(f"{text!r} is not in:\n{''.join(lines)}")


def test_an_interrupted_start_shows_no_frames(tmp_path):
    program(tmp_path, "slow.py", """
    from helve import serve

    @serve.deployment
    class Slow:
        def __init__(self):
            print("begins", flush=True)
            __import__("threading").Event().wait()

        def __call__(self):
            pass

    app = Slow.bind()
    """)
    p = interrupted([sys.executable, "-m", "helve", "run", "--port", "0", "slow:app"], tmp_path)
    await_line(p, "begins")
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "Traceback" not in err


def test_a_drain_that_takes_long_says_so_and_a_second_interrupt_ends_it(tmp_path):
    path = program(tmp_path, "p.py", """
    from helve import serve

    @serve.deployment(graceful_shutdown_timeout_s=600)
    class Busy:
        def wait(self):
            print("begins", flush=True)
            __import__("threading").Event().wait()

    serve.start(http_options={"port": None})
    serve.run(Busy.bind()).wait.remote().result()
    """)
    p = interrupted([sys.executable, str(path)], tmp_path)
    await_line(p, "begins")
    p.send_signal(signal.SIGINT)
    await_line(p, "The node waits for calls that still run")
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=60)
    assert p.returncode == -signal.SIGINT


# ---- two programs


def test_a_port_in_use_names_the_nodes_that_run(tmp_path):
    first = program(tmp_path, "first.py", """
    from helve import serve

    @serve.deployment
    class A:
        def __call__(self):
            pass

    serve.start(http_options={"port": None})
    serve.run(A.bind(), name="neighbour")
    print("ready", flush=True)
    input()
    """)
    with socket.socket() as taken, subprocess.Popen(
        [sys.executable, str(first)], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    ) as p:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert p.stdout.readline() == "ready\n"
        second = first.read_text().replace("None", str(taken.getsockname()[1]), 1)
        ran = run(program(tmp_path, "second.py", second))
        p.communicate("\n", timeout=60)
    assert "HELVE_NODE=" in ran.stderr and "neighbour" in ran.stderr, ran.stderr


# ---- messages


def test_urls_of_all_addresses_can_be_opened():
    assert reachable("http://[::]:8000") == "http://127.0.0.1:8000"
    assert reachable("https://0.0.0.0:1") == "https://127.0.0.1:1"
    assert reachable("http://10.0.0.1:8000") == "http://10.0.0.1:8000"


def test_attributes_of_a_deployment_that_belong_to_handles():
    @serve.deployment
    class A:
        def predict(self):
            pass

    for name in ("remote", "predict", "deploy"):
        with pytest.raises(AttributeError, match=r"handle = serve.run\(A.bind\(...\)\)"):
            getattr(A, name)
    assert not hasattr(A, "_nothing")


def test_options_of_http_that_are_misspelt():
    for make in (lambda: serve.config.HTTPOptions(prt=1), lambda: serve.start(http_options={"prt": 1})):
        with pytest.raises(TypeError, match="http_options: unknown option 'prt'; did you mean 'port'"):
            make()


def test_a_method_of_handles_that_is_misspelt():
    with pytest.raises(TypeError, match="did you mean 'options'"):
        serve.handle.DeploymentHandle("A", "app").option(stream=True)


def test_a_response_that_was_not_awaited_is_named_with_its_method(tmp_path):
    text = """
    from helve import serve

    @serve.deployment
    class A:
        async def forget(self, handle):
            return handle.value.remote()

        def value(self):
            return 1

    serve.start(http_options={"port": None})
    handle = serve.run(A.bind())
    handle.forget.remote(handle).result()
    """
    ran = run(program(tmp_path, "p.py", text))
    where, what = own_lines(ran.stderr)[-2:]
    assert "in replica A#" in where and "the result of A.forget() is one; return its value" in what and "/helve/" not in ran.stderr


@pytest.mark.parametrize("make, name", [
    (lambda: serve.config.AutoscalingConfig(min_replica=2), "min_replicas"),
    (lambda: serve.config.RequestRouterConfig(request_router_kwarg={}), "request_router_kwargs"),
    (lambda: serve.deployment(autoscaling_config={"min_replica": 2}), "min_replicas"),
])
def test_fields_of_configurations_that_are_ignored(make, name):
    with pytest.warns(UserWarning, match=f"ignores it; did you mean '{name}'"):
        make()


def test_names_of_the_package(tmp_path):
    ran = run(program(tmp_path, "p.py", "import helve\nassert helve.serve.run\nhelve.init()\n"))
    assert ran.returncode == 1 and "line 3" in ran.stderr and "--ray-compat" in ran.stderr, ran.stderr
