"""Programs for Ray Serve that run unmodified: `helve run --ray-compat`."""

import pytest
from programs import helve, output, program


@pytest.fixture
def ray(tmp_path):
    """Runs a program under `helve run --ray-compat`, and returns its output."""

    def run(text, *args, env=None):
        return output(helve("run", "--ray-compat", "--port", "0", program(tmp_path, "script.py", text), *args, cwd=tmp_path, env=env))

    return run


class TestImports:
    def test_ray_serve_is_helve_serve(self, ray):
        assert ray("""
            import ray
            import ray.serve.handle
            from ray import serve
            from ray.serve.exceptions import RayServeException
            import helve.serve, helve.serve.handle, helve.serve.exceptions

            assert serve is helve.serve and ray.serve is helve.serve
            assert ray.serve.handle is helve.serve.handle
            assert RayServeException is helve.serve.exceptions.RayServeException
            import starlette
            print(starlette.requests.Request.__name__)
        """) == "Request\n"

    def test_replicas_import_it_too(self, ray):
        assert ray("""
            import ray
            from ray import serve

            @serve.deployment
            class Answer:
                def __init__(self, n):
                    self.n = n

                def __call__(self, x):
                    from ray.serve.context import ReplicaContext
                    import ray.exceptions
                    assert isinstance(serve.get_replica_context(), ReplicaContext)
                    return x + self.n

            ray.init()
            handle = serve.run(Answer.bind(40), route_prefix=None)
            print(handle.remote(2).result())
            serve.shutdown()
            ray.shutdown()
        """) == "42\n"

    def test_a_program_without_the_flag_has_no_ray_of_ours(self, tmp_path):
        script = program(tmp_path, "script.py", """
            import sys
            import helve.serve
            assert not [m for m in sys.modules if m == "ray" or m.startswith("ray.")]
            try:
                import ray
                print("raycompat" in ray.__name__)
            except ModuleNotFoundError:
                print(False)
        """)
        assert output(helve("run", script, cwd=tmp_path)) == "False\n"

    def test_install_after_an_import_of_ray_is_an_error(self, tmp_path):
        (tmp_path / "ray.py").write_text("")
        script = program(tmp_path, "script.py", """
            import ray
            import helve.raycompat
            try:
                helve.raycompat.install()
            except ImportError as e:
                print(e)
        """)
        assert "too late" in output(helve("run", script, cwd=tmp_path))

    def test_pytest_runs_with_it(self, tmp_path):
        program(tmp_path, "test_it.py", """
            import ray

            def test_ray():
                assert ray.serve.__name__ == "helve.serve"
        """)
        done = helve("ray-compat", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", cwd=tmp_path)
        assert "1 passed" in output(done)

    def test_processes_that_a_program_starts_have_it(self, tmp_path):
        script = program(tmp_path, "script.py", """
            import multiprocessing, subprocess, sys

            def child(queue):
                import ray
                from ray import serve
                ray.init(address="auto")
                queue.put((serve.__name__, serve.get_app_handle("default").remote(2).result()))

            if __name__ == "__main__":
                import ray
                from ray import serve

                @serve.deployment
                def double(x):
                    return 2 * x

                serve.start(http_options={"port": None})
                serve.run(double.bind())
                spawn = multiprocessing.get_context("spawn")
                queue = spawn.Queue()
                process = spawn.Process(target=child, args=(queue,))
                process.start()
                print(queue.get(), flush=True)
                process.join()
                code = "from ray import serve; print(serve.get_app_handle('default').remote(4).result())"
                subprocess.run([sys.executable, "-c", code], check=True)
        """)
        assert output(helve("run", "--ray-compat", script, cwd=tmp_path)) == "('helve.serve', 4)\n8\n"


class TestErrors:
    def test_an_exception_of_a_method_is_a_ray_task_error_too(self, ray):
        assert ray("""
            import pytest
            import ray
            from ray import serve
            from ray.exceptions import RayTaskError

            class OwnError(Exception):
                pass

            @serve.deployment
            class Inner:
                def __call__(self):
                    raise OwnError("no luck")

            @serve.deployment
            class Outer:
                def __init__(self, inner):
                    self.inner = inner

                async def __call__(self):
                    try:
                        await self.inner.remote()
                    except OwnError as e:
                        assert isinstance(e, RayTaskError)
                        raise

            handle = serve.run(Outer.bind(Inner.bind()), route_prefix=None)
            for read in (lambda: handle.remote().result(), lambda: ray.get(handle.remote()._to_object_ref_sync())):
                with pytest.raises(OwnError, match="no luck") as caught:
                    read()
                assert isinstance(caught.value, RayTaskError) and type(caught.value.cause) is OwnError
            print("right")
        """) == "right\n"


class TestBesideRay:
    """A Ray that is installed is used without the flag, and not looked at with it."""

    @pytest.fixture
    def installed(self, tmp_path):
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "__init__.py").write_text("NAME = 'the other'\n")
        return program(tmp_path, "script.py", "import ray\nprint(getattr(ray, 'NAME', 'helve'))\n")

    def test_with_the_flag(self, tmp_path, installed):
        assert output(helve("run", "--ray-compat", installed, cwd=tmp_path)) == "helve\n"

    def test_without_the_flag(self, tmp_path, installed):
        assert output(helve("run", installed, cwd=tmp_path)) == "the other\n"
