"""runtime_env of deployments and programs: its forms, its mistakes, and the workers that it makes. pip installs wheels that the tests
make, without a network.
"""

import os
import subprocess
import sys
import textwrap
import zipfile

import pytest

from helve import serve
from helve.serve import _environment


def environment(value):
    return _environment.environment("runtime_env", value)


def archive(path, files):
    with zipfile.ZipFile(path, "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
    return str(path)


def wheel(directory, name, version):
    """The wheel of a package with one module."""
    info = f"{name}-{version}.dist-info/"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        info + "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in files) + f"{info}RECORD,,\n"
    return archive(directory / f"{name}-{version}-py3-none-any.whl", {**files, info + "RECORD": record})


def run(tmp_path, text, *, lines=None, env=None, timeout=180):
    """Runs a program that begins with an application of one class, Model, and gives its lines."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent("""
        import os, sys
        from helve import serve
        serve.start(http_options={"port": None})

        def answer(code, **options):
            class Model:
                def __call__(self):
                    found = {}
                    exec(code, found)
                    return found["x"]
            return serve.run(serve.deployment(Model).options(**options).bind(), name="app", route_prefix=None).remote().result()

        def failure(**options):
            try:
                return answer("x = 'it ran'", **options)
            except Exception as e:
                return f"{type(e).__name__}: {e}"
        """) + textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "HELVE_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_forms(tmp_path, monkeypatch):
    """The forms that Ray takes are one form for the node, which is taken again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.txt").write_text("")
    (tmp_path / "requirements.txt").write_text("# packages\na==1  # comment\n\nb \\\n  >2\n-r more.txt\n./c.whl\n")
    for value, want in [
        ({"env_vars": {"A": "1"}}, {"env_vars": {"A": "1"}}),
        ({"working_dir": "."}, {"working_dir": str(tmp_path)}),
        ({"working_dir": tmp_path / "x.zip"}, {"working_dir": str(tmp_path / "x.zip")}),
        ({"py_modules": ["m", _environment]}, {"py_modules": [str(tmp_path / "m"), _environment.__file__]}),
        ({"py_modules": [serve]}, {"py_modules": [os.path.dirname(serve.__file__)]}),
        ({"pip": ["a", "b==2"]}, {"pip": {"packages": ["a", "b==2"]}}),
        ({"pip": "requirements.txt"}, {"pip": {"packages": ["a==1", "b    >2", f"-r {tmp_path}/more.txt", f"{tmp_path}/c.whl"]}}),
        (
            {"pip": {"packages": ["a"], "pip_check": True, "pip_version": "==24", "pip_install_options": ["--pre"]}},
            {"pip": {"packages": ["a"], "pip_check": True, "pip_version": "==24", "pip_install_options": ["--pre"]}},
        ),
        ({"uv": ["a"]}, {"pip": {"packages": ["a"]}}),
        ({"uv": {"packages": ["a"], "uv_check": False, "uv_version": "==0.4"}}, {"pip": {"packages": ["a"], "pip_check": False}}),
        ({"excludes": ["*.bin"], "config": {"setup_timeout_seconds": 1}, "pip": None}, {"excludes": ["*.bin"]}),
    ]:
        assert environment(value) == want
        assert environment(want) == want


@pytest.mark.parametrize(
    "value, error, text",
    [
        (5, TypeError, "must be a dict"),
        ({"env_vars": {"A": 1}}, TypeError, "must be of type Dict[str, str]"),
        ({"env_vars": ["A"]}, TypeError, "must be of type Dict[str, str]"),
        ({"env_vars": {"A=B": "1"}}, ValueError, "no name of a variable"),
        ({"working_dir": 5}, TypeError, "must be a string"),
        ({"working_dir": ""}, ValueError, "is not a valid path"),
        ({"working_dir": "s3://bucket/x.zip"}, NotImplementedError, "copy it to this machine"),
        ({"py_modules": "x"}, TypeError, "must be a list of strings"),
        ({"py_modules": [5]}, TypeError, "must be a string"),
        ({"py_modules": ["gcs://x"]}, NotImplementedError, "copy it to this machine"),
        ({"pip": 1}, TypeError, "must be of type str or List[str]"),
        ({"pip": ["a", 1]}, TypeError, "must be of type str or List[str]"),
        ({"pip": "no/such.txt"}, ValueError, "is not a valid file"),
        ({"pip": {"packages": ["a"], "x": 1}}, ValueError, "can only have these fields: packages, pip_check, pip_install_options and pip_version"),
        ({"pip": {}}, ValueError, "packages is missing"),
        ({"pip": ["a"], "uv": ["b"]}, ValueError, "cannot be specified at the same time"),
        ({"excludes": "x"}, TypeError, "must be of type List[str]"),
        ({"conda": {}}, NotImplementedError, "use pip"),
        ({"image_uri": "x"}, NotImplementedError, "inside of the container"),
        ({"working_dirs": "."}, ValueError, "did you mean 'working_dir'"),
    ],
)
def test_mistakes(value, error, text):
    with pytest.raises(error) as caught:
        environment(value)
    assert text in str(caught.value) and "runtime_env" in str(caught.value)
    with pytest.raises(error, match="runtime_env"):  # where it is written
        serve.deployment(ray_actor_options={"runtime_env": value})


def test_merge():
    """Variables are merged by their names; another key is replaced as a whole."""
    low = environment({"env_vars": {"A": "1", "B": "1"}, "pip": {"packages": ["x"], "pip_check": True}, "working_dir": "/low"})
    high = environment({"env_vars": {"B": "2"}, "pip": ["y"]})
    assert _environment.merge(low, None, high) == {"env_vars": {"A": "1", "B": "2"}, "pip": {"packages": ["y"]}, "working_dir": "/low"}


def test_directories_and_archives(tmp_path):
    """working_dir is the current directory and is searched for modules before the program's own directory; modules of py_modules are alone in
    their places; archives are unpacked; and an archive that is made again is new replicas."""
    work, lib = tmp_path / "work", tmp_path / "lib"
    for directory, name in ((work, "of the working_dir"), (tmp_path, "of the program")):
        directory.mkdir(exist_ok=True)
        (directory / "which.py").write_text(f"name = {name!r}")
    (lib / "package").mkdir(parents=True)
    (lib / "package" / "__init__.py").write_text("name = 'package'")
    (lib / "single.py").write_text("name = 'single'")
    (lib / "sibling.py").write_text("name = 'sibling'")
    archive(tmp_path / "first.zip", {"zipped.py": "name = 'first'"})
    archive(tmp_path / "second.zip", {"zipped.py": "name = 'second'"})
    archive(tmp_path / "work.zip", {"which.py": "name = 'of the archive'", "data.txt": "data"})
    wheel(tmp_path, "helvetiny", "1.5")
    lines, _ = run(tmp_path, f"""
        print(answer("import os, which; x = os.getcwd(), which.name", runtime_env={{"working_dir": "work"}}))
        print(answer("import os, which; x = open('data.txt').read(), which.name", ray_actor_options={{"runtime_env": {{"working_dir": "work.zip"}}}}))
        modules = ["lib/package", "lib/single.py", "helvetiny-1.5-py3-none-any.whl", "first.zip"]
        print(answer('''
        import package, single, helvetiny, zipped, importlib.util
        x = package.name, single.name, helvetiny.VERSION, zipped.name, importlib.util.find_spec("sibling")
        '''.replace("        ", ""), runtime_env={{"py_modules": modules, "env_vars": {{"A": "1"}}}}))
        def zipped():
            return answer("import os, zipped; x = os.getpid(), zipped.name", runtime_env={{"py_modules": ["zip.zip"]}}, version="1")
        os.link("first.zip", "zip.zip")
        (first, name), (second, again) = zipped(), zipped()
        print(name, again, first == second)
        os.replace("second.zip", "zip.zip")
        third, name = zipped()
        print(name, third == second)
        """)
    assert lines == [
        str((str(work), "of the working_dir")), str(("data", "of the archive")), str(("package", "single", "1.5", "first", None)),
        "first first True", "second False",
    ]


def test_not_there(tmp_path):
    """A directory that is not there is found before anything starts; the error names deployment and key."""
    lines, _ = run(tmp_path, """
        print(failure(runtime_env={"working_dir": "nowhere"}))
        print(failure(ray_actor_options={"runtime_env": {"py_modules": ["nowhere.zip"]}}))
        print(failure(runtime_env={"working_dir": "program.py"}))
        """)
    for line, key in zip(lines, ("working_dir: stat ", "py_modules: stat ", f"working_dir: {tmp_path}/program.py is not a directory")):
        assert 'application "app": deployment "Model": ' + key in line, lines


def test_pip(tmp_path):
    """Packages are installed once, are seen beside the program's own, and come before them; another application may have another version; the
    time of the installation is not that of the constructor. A failure has pip's last lines and the names of deployment and packages."""
    wheel(tmp_path, "helvetiny", "1.0")
    wheel(tmp_path, "helvetiny", "2.0")
    lines, _ = run(tmp_path, """
        code = "import helvetiny, helve, sys; x = helvetiny.VERSION, sys.executable"
        print(*answer(code, ray_actor_options={"runtime_env": {"pip": ["helvetiny==1.0"]}}, construct_timeout_s=0.5))
        print(*answer(code, runtime_env={"pip": {"packages": ["helvetiny==2.0"], "pip_check": False}}, num_replicas=2))
        print(*answer(code, runtime_env={"pip": ["helvetiny==1.0"]}))
        print(failure(runtime_env={"pip": ["helvetiny==9"]}, max_constructor_retry_count=1).replace("\\n", "|"))
        print(failure(runtime_env={"pip": ["helvetiny=9"]}, max_constructor_retry_count=1).replace("\\n", "|"))
        """)
    (first, python), (second, other), (third, again) = (line.split() for line in lines[:3])
    assert (first, second, third) == ("1.0", "2.0", "1.0")
    assert python == again and python != other and python.startswith(str(tmp_path / "cache" / "pyenv"))
    for text in ("deployment Model", "1 package (helvetiny==9)", "pip install has failed", "No matching distribution found for helvetiny==9"):
        assert text in lines[3], lines[3]
    assert "helvetiny=9" in lines[4] and "pip install has failed" in lines[4], lines[4]
    assert len(list((tmp_path / "cache" / "pyenv").glob("*/bin"))) == 2


def test_program(tmp_path):
    """The runtime_env of a program is under that of each deployment."""
    lines, _ = run(tmp_path, """
        from helve.serve import _environment
        _environment.use({"env_vars": {"A": "program", "B": "program"}})
        code = "import os; x = [os.environ.get(n) for n in 'ABC']"
        print(answer(code))
        print(answer(code, ray_actor_options={"runtime_env": {"env_vars": {"B": "actor", "C": "actor"}}}, runtime_env={"env_vars": {"C": "own"}}))
        _environment.use(None)
        print(answer(code))
        """)
    assert lines == ["['program', 'program', None]", "['program', 'actor', 'own']", "[None, None, None]"]
