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
