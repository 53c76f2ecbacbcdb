"""Programs and a durable node, of `helve start`: serve.run finds it, and applications outlive their programs with their code."""

import os
import shutil
import signal
import zipfile

import pytest
from durable import Durable
from eventually import eventually
from running import Running, ask

from helve import _find


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    directory = tmp_path_factory.mktemp("durable")
    made = Durable(directory)
    with made.command:
        made.pid()
        yield made


APP = """
import os, sys
from helve import serve
import words

@serve.deployment
class Greeter:
    def __call__(self, name: str) -> str:
        return words.greeting + name

    def where(self):
        return os.getpid(), words.__file__

if __name__ == "__main__":
    handle = serve.run(Greeter.bind(), name={name!r}, route_prefix="/{name}")
    print(handle.remote("script").result(timeout_s=60))
"""


def project(directory, name, greeting):
    """A program of two files."""
    directory.mkdir(exist_ok=True)
    (directory / "app.py").write_text(APP.format(name=name))
    (directory / "words.py").write_text(f"greeting = {greeting!r}\n")
    return directory


def test_an_application_outlives_its_program(node, tmp_path):
    done = node.python(project(tmp_path / "shop", "outlives", "hello ") / "app.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "hello script\n"), done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith(f"This program runs its applications in the durable node at {node.state} (pid {node.pid()}).")
    ready = next(line for line in said if line.startswith("Application 'outlives' is ready at "))  # a slow machine says before what it waits for
    at = ready.removeprefix("Application 'outlives' is ready at ").split(". It goes on when this program ends; serve.delete('outlives') ends it.")[0]
    assert ask(at, b"http") == "hello http"
    assert node.script("print(serve.get_app_handle('outlives').remote('another').result(timeout_s=60), serve.status().applications['outlives'].status.value)") == "hello another RUNNING"
    assert node.script("serve.delete('outlives'); print('outlives' in serve.status().applications)") == "False"


def test_the_code_is_that_of_the_deploy(node, tmp_path):
    """Also when the files have changed, and when they are gone: the node starts another replica from what it has kept."""
    shop = project(tmp_path / "shop", "kept", "first ")
    assert node.python(shop / "app.py").stdout == "first script\n"
    look = "h = serve.get_app_handle('kept'); print(*h.where.remote().result(timeout_s=60), h.remote('').result(timeout_s=60))"
    pid, file, _ = node.script(look).split()
    assert file.startswith(os.path.join(node.state, "code", "")) and file.endswith("/shop/words.py")
    project(shop, "kept", "second ")
    shutil.rmtree(shop)
    os.kill(int(pid), signal.SIGKILL)
    again = eventually(lambda: [p for p in [node.script(f"try:\n    {look}\nexcept Exception: print()")] if p.split() and p.split()[0] != pid])[0]
    assert again.split()[1:] == [file, "first"]
    assert node.python(project(shop, "kept", "third ") / "app.py").stdout == "third script\n"
    node.script("serve.delete('kept')")


def test_a_roll_back_restores_the_code(node, tmp_path):
    """Not the path: the files have changed, and the data beside them."""
    shop = project(tmp_path / "shop", "back", "first ")
    assert node.python(shop / "app.py").stdout == "first script\n"
    assert node.python(project(shop, "back", "second ") / "app.py").stdout == "second script\n"
    back = "from helve import _driver; _driver.running().control('rollback', app='back'); print(serve.get_app_handle('back').remote('again').result(timeout_s=60))"
    assert node.script(back) == "first again"
    node.script("serve.delete('back')")


def test_a_runtime_env_is_kept(node, tmp_path):
    """The working_dir and the py_modules of a deployment: a directory and an archive."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prices.csv").write_text("1,2")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("x = 'mine'")
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as z:
        z.writestr("zipped.py", "x = 'zipped'")
    code = f"""
@serve.deployment(runtime_env={{"working_dir": {str(tmp_path / "data")!r}, "py_modules": [{str(tmp_path / "mine")!r}, {str(tmp_path / "lib.zip")!r}]}})
class Prices:
    def __init__(self):
        import os, mine, zipped
        self.all = [open("prices.csv").read(), mine.x, zipped.x, os.getpid()]

    def __call__(self):
        return self.all

print(*serve.run(Prices.bind(), name="prices", route_prefix=None).remote().result(timeout_s=60))
"""
    prices, mine, zipped, pid = node.script(code).split()
    assert (prices, mine, zipped) == ("1,2", "mine", "zipped")
    for name in ("data", "mine"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "lib.zip").unlink()
    os.kill(int(pid), signal.SIGKILL)
    look = "try: print(*serve.get_app_handle('prices').remote().result(timeout_s=60))\nexcept Exception: print()"
    again = eventually(lambda: [said for said in [node.script(look)] if said and not said.endswith(pid)])[0]
    assert again.split()[:3] == ["1,2", "mine", "zipped"]
    node.script("serve.delete('prices')")


def test_a_directory_that_is_too_large_is_used_where_it_is(node, tmp_path):
    shop = project(tmp_path / "shop", "large", "large ")
    with open(shop / "weights.bin", "wb") as f:
        f.truncate(300 << 20)  # without a block on the disk
    done = node.python(shop / "app.py")
    assert done.stdout == "large script\n"
    assert f"warning: the node keeps no copy of {shop}: its files have more than 256 MiB, of those read: weights.bin 300 MiB" in done.stderr
    assert "The application runs from there" in done.stderr
    assert node.script("print(serve.get_app_handle('large').where.remote().result(timeout_s=60)[1])") == str(shop / "words.py")
    node.script("serve.delete('large')")


def test_a_program_in_the_root_directory(node):
    """As in a container without a working directory: "/" is not kept, and of the program nothing is lost, so no line warns."""
    code = """
@serve.deployment
def f(): return 1
print(serve.run(f.bind(), name="root", route_prefix=None).remote().result(timeout_s=60))
serve.delete("root")
"""
    done = node.python("-c", "from helve import serve" + code, cwd="/")
    assert (done.returncode, done.stdout) == (0, "1\n") and "warning" not in done.stderr, done.stderr


def test_a_node_of_its_own(node):
    """HELVE_NODE=local, and the same address."""
    code = "serve.start(http_options={'port': None}, address=%s)\n@serve.deployment\ndef f(): return 1\nserve.run(f.bind(), name='own', route_prefix=None)\nprint(sorted(serve.status().applications))"
    assert node.script(code % None, HELVE_NODE="local") == node.script(code % "'local'") == "['own']"
    assert "own" not in node.script("print(sorted(serve.status().applications))")


@pytest.mark.parametrize("address", ["state", "private", "socket", "auto"])
def test_an_address(node, address):
    of = {"state": node.state, "private": _find.private(node.state), "socket": f"unix:{node.state}/node.sock", "auto": "auto"}[address]
    code = f"serve.start(address={of!r})\nfrom helve import _driver\nprint(_driver._driver.dir)\nserve.shutdown()\nimport os\nprint('HELVE_NODE' in os.environ)"
    assert node.script(code).splitlines() == [node.state, "False"]


def test_an_address_without_a_node(node, tmp_path):
    code = "try: serve.start(address={!r})\nexcept Exception as e: print(type(e).__name__, e)"
    assert node.script(code.format(str(tmp_path))).startswith(f"RayServeException no node runs at {tmp_path}: there is no ")
    empty = {"HELVE_RUNTIME_DIR": str(tmp_path)}
    assert "serve.start(address='auto'): no node of this user runs here" in node.script(code.format("auto"), **empty)


def test_shutdown_leaves_the_application(node):
    code = """
@serve.deployment
def f(): return 1
serve.run(f.bind(), name="stays", route_prefix=None)
serve.shutdown()
"""
    done = node.python("-c", "from helve import serve" + code)
    assert done.returncode == 0 and "The durable node goes on with 'stays'; serve.delete(name) ends an application." in done.stderr, done.stderr
    assert node.script("print(serve.get_app_handle('stays').remote().result(timeout_s=60)); serve.delete('stays')") == "1"


def test_helve_run_asks_for_it(node, tmp_path):
    """`helve run` has a node of its own, and with --node it deploys to the durable one, and ends."""
    shop = project(tmp_path / "shop", "unused", "run ")
    (shop / "app.py").write_text((shop / "app.py").read_text() + "\napp = Greeter.bind()\n")
    with Running("run", "--http", "127.0.0.1:0", "app:app", "--name", "asked", cwd=shop, env=node.environment) as run:
        assert ask(run.url()) == "run x"
        assert "asked" not in node.script("print(sorted(serve.status().applications))")
    done = node.python("-m", "helve", "run", "--node", "app:app", "--name", "asked", "--route-prefix", "/asked", cwd=shop)
    assert done.returncode == 0 and "Application 'asked' is ready at " in done.stderr, done.stderr
    assert node.script("print(serve.get_app_handle('asked').remote('x').result(timeout_s=60)); serve.delete('asked')") == "run x"
    done = node.python("-m", "helve", "run", "--node", "--http", "127.0.0.1:0", "app:app", cwd=shop)
    assert done.returncode == 2 and "--http: --node runs the program in a node that has its own options" in done.stderr
