"""`helve run` of Python programs."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import helve as helve_package
import pytest
from programs import ENVIRONMENT, helve, output, program
from running import Running, ask

MODULE = """
    from dataclasses import dataclass
    from helve import serve
    from pydantic import BaseModel

    @serve.deployment
    class Greeter:
        def __init__(self, word):
            self.word = word

        def __call__(self, request):
            return self.word

    class Words(BaseModel):
        word: str
        times: int = 1

    @dataclass
    class Plain:
        word: str

    app = Greeter.bind("hi")
    number = 3

    def build(args):
        return Greeter.bind(repr(sorted(args.items())))

    def typed(args: Words):
        return Greeter.bind(args.word * args.times)

    def dataclass_(args: Plain):
        return Greeter.bind(args.word)

    def nothing():
        return app

    def sized(size: int, names: list[str] = ()):
        return Greeter.bind(f"{size + 1} {'+'.join(names)}")

    def other(args):
        return 3

    def broken(args):
        return args["missing"]

    class Holder:
        app = app
"""


@pytest.fixture
def module(tmp_path):
    program(tmp_path, "cli_apps.py", MODULE)
    return tmp_path


def serve_once(*args, cwd):
    """The answer of `helve run` over HTTP, its exit status and its stderr, after a SIGINT."""
    p = subprocess.Popen(
        [sys.executable, "-m", "helve", "run", "--port", "0", *args], cwd=cwd, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    lines = []
    try:
        for line in p.stderr:
            lines.append(line)
            url = re.search(r"ready at (http://\S+?)\.?$", line.strip())
            if url:
                with urllib.request.urlopen(url[1], timeout=60) as answer:
                    body = answer.read().decode()
                p.send_signal(signal.SIGINT)
                _, rest = p.communicate(timeout=60)
                return body, p.returncode, "".join(lines) + rest
    finally:
        p.kill()
        p.wait()
    raise AssertionError("".join(lines))


class TestApplications:
    @pytest.mark.parametrize("args, answer", [
        (["cli_apps:app"], "hi"),
        (["cli_apps:Holder.app"], "hi"),
        (["--name", "x", "--route-prefix", "/deep", "cli_apps:app"], "hi"),
        (["cli_apps:build"], "[]"),
        (["cli_apps:build", "a=1", "b=x=y"], "[('a', '1'), ('b', 'x=y')]"),
        (["cli_apps:typed", "word=ab", "times=2"], "abab"),
        (["cli_apps:dataclass_", "word=w"], "w"),
        (["cli_apps:nothing"], "hi"),
        (["cli_apps:sized", "size=2", "names=a,b", "--name", "behind"], "3 a+b"),
    ])
    def test_it_serves_until_it_is_interrupted(self, module, args, answer):
        body, code, text = serve_once(*args, cwd=module)
        assert body == answer
        assert code == 0, text
        assert "Traceback" not in text

    def test_an_interrupt_between_its_line_and_its_wait_is_the_same(self, module):
        """The test sends it when the command asks for its driver, which is after the line. A busy machine makes this moment long."""
        program = """
import os, signal
from helve import _cli, _driver
ask, sent = _driver.running, []
def running():
    if _driver._driver.ingress and not sent:
        sent.append(os.kill(os.getpid(), signal.SIGINT))
    return ask()
_driver.running = running
_cli.main(["run", "--port", "0", "cli_apps:app"])
"""
        done = subprocess.run([sys.executable, "-c", program], cwd=module, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "is ready at" in done.stderr, "Traceback" in done.stderr) == (0, True, False), done.stderr

    @pytest.mark.parametrize("args, there", [(["--admin", "127.0.0.1:0"], True), ([], False)])
    def test_the_address_of_the_dashboard_is_on_stderr(self, module, args, there):
        _, code, text = serve_once(*args, "cli_apps:app", cwd=module)
        assert code == 0, text
        assert bool(re.search(r"^the dashboard is on http://127\.0\.0\.1:\d+/ui/$", text, re.MULTILINE)) is there, text

    def test_app_dir_is_where_modules_are(self, module, tmp_path):
        body, _, _ = serve_once("--app-dir", str(module), "cli_apps:app", cwd="/")
        assert body == "hi"

    @pytest.mark.parametrize("args, text, code", [
        (["cli_apps:number"], "cli_apps:number: it is an int, and must be an Application", 1),
        (["cli_apps:Greeter"], "write app = Greeter.bind(...)", 1),
        (["cli_apps:ap"], "cli_apps has no 'ap'; did you mean 'app'?", 1),
        (["cli_app:app"], "there is no module 'cli_app' in ", 1),
        (["cli_apps:app:x"], "cli_apps:app:x: write cli_apps:app, with one colon", 2),
        (["cli_apps:app", "--route-prefix", "x"], "cli_apps:app: --route-prefix: Invalid route_prefix 'x', must start with a forward slash", 2),
        (["cli_apps:app", "a=1"], "cli_apps:app: it is an application already, and takes no arguments", 2),
        (["cli_apps:build", "a"], "Invalid application argument 'a': must be key=value", 2),
        (["cli_apps:typed", "times=x", "word=a"], "cli_apps:typed: times: Input should be a valid integer", 2),
        (["cli_apps:dataclass_", "wort=a"], "there is no argument 'wort'; did you mean 'word'?; it takes word (str)", 2),
        (["cli_apps:sized", "size=big"], "cli_apps:sized: size: must be an int, is 'big'", 2),
        (["cli_apps:other"], "it returned an int, and must return an Application", 1),
        (["cli_apps:broken"], "KeyError: 'missing'", 1),
        (["--http", "x", "cli_apps:app"], "--http x: must be HOST:PORT", 2),
        (["--dry-run", "cli_apps.py"], "--dry-run is for MODULE:APPLICATION and files", 2),
        (["--app-dir", "missing", "cli_apps:app"], "there is no such directory", 2),
        (["--port", "x", "cli_apps:app"], "--port: must be a number from 0 to 65535, is 'x'", 2),
        (["--nam", "x", "cli_apps:app"], "there is no flag --nam; did you mean '--name'?", 2),
        (["--state-dir", "x", "cli_apps:app"], "--state-dir is for applications in Go", 2),
        (["cli_apps:app", "cli_apps:typed"], "have the same --name default: give each its own, for example helve run cli_apps:app --name", 2),
        (["cli_apps:app", "cli_apps:app", "--name", "b"], "have the same --route-prefix /", 2),
        (["cli_apps:app", "cli_apps:app"], "cli_apps:app --name cli_apps --route-prefix /cli_apps cli_apps:app --name cli_apps2 --route-prefix /cli_apps2", 2),
        (["--port", "\u00b2", "cli_apps:app"], "--port: must be a number from 0 to 65535, is '\u00b2'", 2),
        (["--http-memory", "much", "cli_apps:app"], '--http-memory: must be a number of bytes, or one with KiB, MiB or GiB, is "much"', 2),
        (["missing.py"], "missing.py: No such file or directory", 2),
        (["--name", "x", "cli_apps.py"], "a script gives them to serve.run", 2),
    ])
    def test_mistakes(self, module, args, text, code):
        done = helve("run", *args, cwd=module)
        assert text in done.stderr
        assert done.returncode == code
        assert "_cli.py" not in done.stderr and "_run.py" not in done.stderr

    def test_an_import_that_fails_shows_the_users_traceback_only(self, tmp_path):
        program(tmp_path, "failing.py", "import json\nimport not_there\n")
        done = helve("run", "failing:app", cwd=tmp_path)
        assert "failing.py\", line 2" in done.stderr
        assert "No module named 'not_there'" in done.stderr
        assert "_cli.py" not in done.stderr and "importlib" not in done.stderr
        assert "--ray-compat" not in done.stderr
        assert done.returncode == 1

    @pytest.mark.parametrize("flag", ["--dry-run", "--reload"])
    def test_the_current_directory_is_gone(self, tmp_path, flag):
        command = ["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh", sys.executable, "-m", "helve", "run", flag, "app:app"]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "error: the current directory is gone: change to one that is there\n")

    def test_a_full_disk_behind_stdout(self, module):
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "helve", "run", "--dry-run", "cli_apps:app"], cwd=module, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")

    @pytest.mark.parametrize("then", ["sys.stdout.close()", "sys.stdout.flush(); sys.stdout.detach()", "sys.stdout.flush(); sys.stdout = object()", "sys.exit(0)"])
    def test_a_script_that_has_done_with_stdout(self, tmp_path, then):
        program(tmp_path, "ends.py", f"import sys\nprint('once')\n{then}\n")
        done = helve("run", "ends.py", cwd=tmp_path)
        plain = subprocess.run([sys.executable, "ends.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout) == (plain.returncode, "once\n")
        assert "Traceback" not in done.stderr or "Traceback" in plain.stderr

    def test_what_was_printed_before_an_error_is_there(self, module):
        code = (
            "from helve import _cli\ndef dispatch(args):\n    print('before', end='')\n    open('/nowhere')\n"
            "_cli.dispatch = dispatch\n_cli.main([])"
        )
        done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, "before") and done.stderr.startswith("error: [Errno 2]")

    def test_an_end_behind_a_full_disk(self, tmp_path):
        program(tmp_path, "ends.py", "import sys\nprint('once')\nsys.exit(0)\n")
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "helve", "run", "ends.py"], cwd=tmp_path, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")

    def test_a_module_that_ends_the_program_is_an_error(self, tmp_path):
        program(tmp_path, "ending.py", "import sys\nsys.exit(0)\n")
        done = helve("run", "ending:app", cwd=tmp_path)
        assert "ending.py\", line 2" in done.stderr and "the import of 'ending' failed" in done.stderr and "SystemExit: 0" in done.stderr
        assert done.returncode == 1

    @pytest.mark.parametrize("target", ["for_ray:app", "for_ray.py"])
    def test_a_program_that_imports_ray_hears_of_the_flag(self, tmp_path, target):
        program(tmp_path, "for_ray.py", "from ray import serve\n")
        done = helve("run", target, cwd=tmp_path)
        assert "No module named 'ray'\n\nA program for Ray Serve runs as it is by helve run --ray-compat, or " in done.stderr
        assert done.returncode == 1

    def test_a_dry_run_refuses_what_no_deploy_takes(self, tmp_path):
        program(tmp_path, "wrong.py", """
            from helve import serve

            @serve.deployment
            class Model:
                def __call__(self, x: str) -> str:
                    return x

            configured = Model.options(user_config={"a": 1}).bind()
            placed = Model.options(runtime_env={"working_dir": "not_there"}).bind()
        """)
        done = helve("run", "--dry-run", "wrong:configured", cwd=tmp_path)
        assert (done.stderr, done.returncode) == ("error: wrong:configured: user_config is set, but Model has no method reconfigure(user_config)\n", 2)
        done = helve("run", "--dry-run", "wrong:placed", cwd=tmp_path)
        assert done.stderr == f"error: wrong:placed: deployment 'Model': runtime_env: working_dir: there is no {tmp_path}/not_there\n"

    @pytest.mark.parametrize("variables, text", [
        ({"HELVE_HTTP": "x"}, "HELVE_HTTP=x: must be HOST:PORT"),
        ({"HELVE_RELOAD": "perhaps"}, "HELVE_RELOAD: must be 1 or 0, true or false, is 'perhaps'"),
        ({"HELVE_HTTP_MEMORY": "much"}, "HELVE_HTTP_MEMORY: must be a number of bytes"),
        ({"HELVE_HTTP_MEMORY": "much", "HELVE_RELOAD": "1"}, "HELVE_HTTP_MEMORY: must be a number of bytes"),
        ({"HELVE_APP_DIR": "missing"}, "HELVE_APP_DIR missing: there is no such directory"),
    ])
    def test_a_bad_value_names_the_variable(self, module, variables, text):
        done = helve("run", "cli_apps:app", cwd=module, env=variables)
        assert text in done.stderr and done.returncode == 2 and "Traceback" not in done.stderr

    def test_without_http(self, module):
        with Running("run", "--http", "none", "cli_apps:app", cwd=module) as run:
            run.wait("Application 'default' is ready, without HTTP.")
            assert run.end()[0] == 0

    def test_several_applications(self, module):
        args = ["cli_apps:app", "--name", "a", "--route-prefix", "/a", "cli_apps:sized", "size=1", "--name", "b", "--route-prefix", "/b"]
        with Running("run", "--port", "0", *args, cwd=module) as run:
            base = run.wait("ready at (http://[^/]+)/")[1]
            run.wait("ready at")
            assert (ask(base + "/a"), ask(base + "/b")) == ("hi", "2 ")
            code, text = run.end()
            assert code == 0, text

    def test_flags_beat_variables_and_both_beat_the_program(self, module):
        program(module, "fixed.py", """
            from cli_apps import app
            from helve import serve
            serve.start(http_options={"host": "127.0.0.1", "port": 1})
            serve.run(app, blocking=True)
        """)
        with Running("run", "--http", "127.0.0.1:0", "fixed.py", cwd=module, env={"HELVE_HTTP": "127.0.0.1:2"}) as run:
            assert ask(run.url()) == "hi"
        with Running("fixed.py", cwd=module, env={"HELVE_HTTP": "127.0.0.1:0"}, python=sys.executable) as run:
            assert ask(run.url()) == "hi"

    def test_a_variable_with_a_typo(self, module):
        done = helve("run", "--dry-run", "cli_apps:app", cwd=module, env={"HELVE_HTPP": "x", "HELVE_SERVICE_HOST": "y", "HELVE_PORT": "tcp://1"})
        assert done.stderr == "warning: HELVE_HTPP: there is no such variable; did you mean HELVE_HTTP?\n"
        assert output(done) == "application default  cli_apps:app  /\n  deployment Greeter  1 replica\n"

    def test_a_warning_of_a_variable_is_there_once(self, module):
        with Running("run", "--http", "127.0.0.1:0", "cli_apps:app", cwd=module, env={"HELVE_HTPP": "x"}) as run:
            assert ask(run.url()) == "hi"
            code, text = run.end()
        assert (code, text.count("HELVE_HTPP")) == (0, 1), text

    def test_a_second_signal_cuts_off_what_is_left(self, tmp_path):
        program(tmp_path, "slow.py", """
            import time
            from helve import serve

            @serve.deployment(graceful_shutdown_timeout_s=100)
            class Slow:
                def __call__(self, x: str) -> str:
                    print("begun", flush=True)
                    time.sleep(1000)

            app = Slow.bind()
        """)
        with Running("run", "--port", "0", "slow:app", cwd=tmp_path) as run:
            url = run.url()
            threading.Thread(target=lambda: pytest.raises(Exception, ask, url), daemon=True).start()
            run.wait("begun")
            run.process.send_signal(signal.SIGTERM)
            run.process.send_signal(signal.SIGTERM)  # at once: it is the same wish
            run.wait("The node waits for calls that still run")
            code, text = run.end()
            assert code == 130, text


class TestScripts:
    def test_a_script_runs_as_by_python(self, tmp_path):
        program(tmp_path, "sibling.py", "VALUE = 7\n")
        script = program(tmp_path, "script.py", """
            import pickle, sys
            import sibling
            class Here: pass
            def main():
                print(__name__, sys.argv[1:], sibling.VALUE, __file__ == sys.modules["__main__"].__file__)
                assert type(pickle.loads(pickle.dumps(Here()))) is Here
            if __name__ == "__main__":
                main()
        """)
        assert output(helve("run", script, "--name", "x", cwd="/")) == "__main__ ['--name', 'x'] 7 True\n"

    @pytest.mark.parametrize("body, code", [("import sys; sys.exit(5)", 5), ("sys = 1\nsys.exit(5)", 1), ("raise SystemExit('sorry')", 1)])
    def test_its_end_is_the_end_of_the_command(self, tmp_path, body, code):
        done = helve("run", program(tmp_path, "script.py", body), cwd=tmp_path)
        assert done.returncode == code
        assert "_cli.py" not in done.stderr

    def test_deployments_of_a_script_are_served(self, tmp_path):
        script = program(tmp_path, "script.py", """
            from helve import serve

            FACTOR = 6

            @serve.deployment
            class Times:
                def __call__(self, n):
                    return n * FACTOR

            serve.start(http_options={"port": None})
            print(serve.run(Times.bind()).remote(7).result())
        """)
        assert output(helve("run", script, cwd="/")) == "42\n"


def test_other_commands_are_the_binarys(tmp_path):
    done = helve("run", "exec:/nowhere/to/be/found", cwd=tmp_path)
    assert done.returncode != 0 and "/nowhere/to/be/found" in done.stderr
    assert "there is no command" in helve("nonsense", cwd=tmp_path).stderr


class TestBinary:
    """The binary hands Python programs to the interpreter that has the package."""

    def run(self, *args, cwd, **env):
        binary = Path(helve_package.__file__).parent / "_bin" / "helve"
        return subprocess.run([binary, *args], cwd=cwd, env={**ENVIRONMENT, **env}, capture_output=True, text=True, timeout=120)

    def test_a_script(self, tmp_path):
        program(tmp_path, "script.py", "import sys\nprint(sys.argv)\n")
        assert output(self.run("run", "script.py", "a", "--b", cwd=tmp_path, HELVE_PYTHON=sys.executable)) == "['script.py', 'a', '--b']\n"

    def test_a_file_of_the_directory_does_not_hide_the_package(self, tmp_path):
        (tmp_path / "helve.py").write_text("raise SystemExit('wrong')")
        program(tmp_path, "script.py", "print('right')\n")
        done = self.run("run", "script.py", cwd=tmp_path, HELVE_PYTHON=sys.executable)
        assert done.stdout == "right\n", done.stderr

    def test_no_interpreter(self, tmp_path):
        done = self.run("run", "app:x", cwd=tmp_path, HELVE_PYTHON="/not/there")
        assert done.returncode == 1 and "HELVE_PYTHON=/not/there" in done.stderr

    def test_no_package(self, tmp_path):
        bare = tmp_path / "bare"
        bare.write_text(f"#!/bin/sh\nexec {sys.executable} -S -I \"$@\"\n")
        bare.chmod(0o700)
        done = self.run("run", "app:x", cwd=tmp_path, HELVE_PYTHON=str(bare))
        assert done.returncode == 1 and "has no package helve: install it there" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_program_without_standard_input_and_output(tmp_path, closed):
    """The socket to the node is none of the descriptors 0 to 2, in whose place a child process has its output."""
    program(tmp_path, "app.py", """
        import sys
        from helve import serve

        @serve.deployment
        class D:
            def __call__(self, x):
                return x + 1

        print(serve.run(D.bind()).remote(1).result(), file=sys.stderr)
    """)
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "helve", "run", "--http", "none", "app.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and "2\n" in done.stderr, done.stderr
