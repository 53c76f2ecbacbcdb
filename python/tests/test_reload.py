"""`helve run --reload`: only changed code restarts, a broken save changes nothing, and requests are not lost."""

import os
import select
import signal

import pytest
from programs import program
from running import Client, Running, ask

MODELS = """
    import os
    from helve import serve

    WORD = "one"

    @serve.deployment
    class Model:
        def __call__(self, x: str) -> str:
            return f"{WORD} {x}"
"""
APP = """
    import os
    from helve import serve
    from models import Model

    @serve.deployment
    class Ingress:
        def __init__(self, model):
            self.model = model

        async def __call__(self, x: str) -> str:
            return f"first {os.getpid()} " + await self.model.remote(x)

    app = Ingress.bind(Model.bind())
"""


def edit(path, old, new):
    """A save of a file with a text in place of another, as editors write it: a new file under the name."""
    text = path.read_text()
    assert old in text
    beside = path.with_suffix(".new")
    beside.write_text(text.replace(old, new))
    beside.replace(path)


@pytest.fixture
def project(tmp_path):
    program(tmp_path, "models.py", MODELS)
    program(tmp_path, "app.py", APP)
    return tmp_path


def reloading(*args, cwd, env=None):
    return Running("run", "--reload", "--http", "127.0.0.1:0", *args, cwd=cwd, env=env)


def test_only_changed_code_restarts_and_no_request_is_lost(project):
    with reloading("app:app", cwd=project) as run:
        run.wait("watching 2 files below ")
        url = run.url()
        _, ingress, word, _ = ask(url).split()
        assert word == "one"
        with Client(url) as client:
            edit(project / "app.py", 'f"first', 'f"second')
            run.wait("reloading: app.py changed")
            run.wait(r"reloaded in \d+\.\d\d s: Ingress restarted; Model went on")
            assert ask(url).startswith("second ")
            ingress = ask(url).split()[1]
            edit(project / "models.py", '"one"', '"two"')
            run.wait("reloading: models.py changed")
            run.wait(r"reloaded in \S+ s: Ingress, Model restarted")
            assert ask(url).split()[2] == "two"
            assert ask(url).split()[1] != ingress
        assert client.answers
        code, text = run.end()
        assert code == 0, text
        assert "Traceback" not in text


def test_a_broken_save_keeps_the_version_before_and_the_next_good_one_heals_it(project):
    with reloading("app:app", cwd=project) as run:
        url = run.url()
        first = ask(url)
        app = project / "app.py"
        good = app.read_text()
        with Client(url) as client:
            app.write_text(good + "\ndef (\n")
            run.wait(r'File ".*app.py", line \d+')
            run.wait("SyntaxError")
            run.wait("not reloaded: the version before serves on; waiting for the next change")
            app.write_text(good.replace("import os", "import not_there"))
            run.wait("the import of 'app' failed")
            run.wait(r'File ".*app.py", line 2')
            run.wait("No module named 'not_there'")
            run.wait("the version before serves on")
            app.write_text(good.replace("self.model = model", "self.model = 1 / 0"))
            run.wait(r'File ".*app.py", line \d+, in __init__')
            run.wait("ZeroDivisionError")
            run.wait("the version before serves on")
            assert ask(url) == first
            app.write_text(good.replace("first", "mended"))
            run.wait("reloaded in")
            assert ask(url).startswith("mended")
        assert {a.split()[0] for a in client.answers} <= {"first", "mended"}
        _, text = run.end()
        assert "_run.py" not in text and "_cli.py" not in text and "importlib" not in text


def test_a_broken_save_while_the_last_application_starts(project):
    """The loader has not reported that it has done, and an application serves already."""
    program(project, "slow.py", """
        import os, time
        from helve import serve

        @serve.deployment
        class Slow:
            def __init__(self):
                while not os.path.exists("go"):
                    time.sleep(0.02)

            def __call__(self, x: str) -> str:
                return x

        app = Slow.bind()
    """)
    program(project, "serve.yaml", """
        applications:
        - name: shop
          route_prefix: /shop
          import_path: app:app
        - name: slow
          route_prefix: /slow
          import_path: slow:app
    """)
    with reloading("serve.yaml", cwd=project) as run:
        url = run.wait(r"'shop' is ready at (http://[^/]+/shop)")[1]
        app = project / "app.py"
        app.write_text(app.read_text() + "\ndef (\n")
        run.wait("SyntaxError")
        run.wait("not reloaded: the version before serves on; waiting for the next change")
        assert ask(url).startswith("first ")
        (project / "go").touch()
        run.wait("'slow' is ready at")


def test_a_program_that_is_broken_from_the_start_waits_for_its_mending(project):
    (project / "models.py").rename(project / "models.txt")
    with reloading("app:app", cwd=project) as run:
        run.wait("No module named 'models'")
        run.wait("not loaded: nothing serves yet; waiting for the next change")
        (project / "models.txt").rename(project / "models.py")
        assert ask(run.url()).endswith("one x")


def test_a_save_without_another_content_reloads_nothing(project):
    with reloading("app:app", cwd=project) as run:
        run.url()
        (project / "app.py").write_text((project / "app.py").read_text())
        edit(project / "models.py", "one", "two")
        assert run.wait("reloading: (.*)")[1] == "models.py changed"
        run.wait("reloaded in")


def test_a_save_in_the_second_of_another_with_the_same_size(project):
    """Python would take the bytecode of the first save for that of the second: it compares sizes and seconds."""
    models = project / "models.py"
    os.utime(models, ns=(0, 1_700_000_000_000_000_000))
    with reloading("app:app", cwd=project, env={"PYTHONDONTWRITEBYTECODE": ""}) as run:
        url = run.url()
        assert ask(url).endswith("one x")
        assert list((project / "__pycache__").glob("models.*.pyc"))
        new = project / "models.new"
        new.write_text(models.read_text().replace('"one"', '"two"'))
        os.utime(new, ns=(0, 1_700_000_000_500_000_000))
        new.replace(models)
        run.wait("reloaded in")
        assert ask(url).endswith("two x")


def test_a_script(tmp_path):
    script = program(tmp_path, "script.py", """
        import os
        from helve import serve

        os.environ["WORD"] = "of the script"

        @serve.deployment
        class D:
            def __call__(self, x: str) -> str:
                return os.environ["WORD"] + " one"

        serve.run(D.bind(), blocking=True)
    """)
    with reloading("script.py", cwd=tmp_path) as run:
        url = run.url()
        assert ask(url) == "of the script one"
        with Client(url):
            edit(script, "one", "two")
            run.wait("reloading: script.py changed")
            run.wait("reloaded in .* D restarted")
            assert ask(url) == "of the script two"
        code, text = run.end(signal.SIGTERM)
        assert code == 0, text


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "lambda *_: sys.exit(0)"])
def test_a_script_ends_with_a_watcher_that_is_killed(tmp_path, handler):
    program(tmp_path, "script.py", f"""
        import os, signal, sys
        from helve import serve

        @serve.deployment
        class D:
            def __call__(self, x: str) -> str:
                return x

        signal.signal(signal.SIGTERM, {handler})
        serve.run(D.bind())
        print("script", os.getpid(), flush=True)
        while True:
            signal.pause()
    """)
    with reloading("script.py", cwd=tmp_path) as run:
        script = os.pidfd_open(int(run.wait(r"script (\d+)")[1]))
        run.process.kill()
        try:
            assert select.select([script], [], [], 60)[0], "the script goes on"
        finally:
            os.close(script)


def test_a_file_of_applications(project):
    file = program(project, "serve.yaml", """
        applications:
        - name: shop
          route_prefix: /shop
          import_path: app:app
        - name: model
          route_prefix: /model
          import_path: models:model
    """)
    with open(project / "models.py", "a") as f:
        f.write("\nmodel = Model.bind()\n")
    with reloading("serve.yaml", cwd=project) as run:
        url = run.wait(r"is ready at (http://[^/]+)/")[1]
        run.wait("is ready at")  # the other one
        assert ask(url + "/model") == "one x"
        file.write_text("\n".join(file.read_text().splitlines()[:5]) + "\n")
        run.wait("reloading: serve.yaml changed")
        run.wait("application 'model' is not in the program any more, and has ended")
        run.wait("reloaded in .*: nothing had to restart")
        file.write_text("applications: [{nam: x}]\n")
        run.wait("serve.yaml:1:17: nam: an application has no such field; did you mean name")
        run.wait("the version before serves on")


def test_it_needs_a_node_of_its_own(project):
    with Running("run", "--reload", "app:app", cwd=project, env={"HELVE_NODE": "/nowhere"}) as run:
        code, text = run.ended()
        assert code == 2 and "--reload starts a node of its own, and HELVE_NODE names another" in text
