"""serve.run of an application that runs or fails: attempts, errors that end them at once, and another deploy while one is under way."""

import os
import threading
import time

import pytest
from eventually import eventually

from helve import serve


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def run(app, **options):
    return serve.run(app, name="update", **{"route_prefix": None, **options})


def test_a_constructor_that_fails_at_first_is_tried_again(node, tmp_path, capfd):
    @serve.deployment
    class Flaky:
        def __init__(self, path):
            if not os.path.exists(path):
                open(path, "w").close()
                raise RuntimeError("the database is not there yet")

        def __call__(self):
            return "up"

    assert run(Flaky.bind(str(tmp_path / "tried"))).remote().result() == "up"
    assert serve.status().applications["update"].status == "RUNNING"


def test_one_replica_that_fails_is_tried_again_and_the_others_serve_on(node, tmp_path):
    @serve.deployment(num_replicas=2)
    class Partial:
        def __init__(self, path):
            try:
                with open(path, "x") as f:
                    f.write(serve.get_replica_context().replica_id.unique_id)
            except FileExistsError:
                return
            raise RuntimeError("the first one fails")

        def __call__(self):
            return "up"

    assert run(Partial.bind(str(tmp_path / "first"))).remote().result() == "up"
    assert serve.status().applications["update"].deployments["Partial"].replica_states == {"RUNNING": 2}


@pytest.mark.parametrize("kind", ["ImportError('no module')", "SyntaxError('no Python')"])
def test_an_error_that_does_not_heal_ends_it_at_once(node, tmp_path, kind):
    @serve.deployment
    class Wrong:
        def __init__(self, path):
            with open(path, "a") as f:
                f.write("x")
            raise eval(kind)

    with pytest.raises(RuntimeError, match="no module|no Python"):
        run(Wrong.bind(str(tmp_path / "tried")))
    assert (tmp_path / "tried").read_text() == "x"


def test_another_route_another_ingress_and_fewer_deployments(node):
    @serve.deployment
    class Down:
        def __call__(self):
            return "down"

    @serve.deployment
    class Front:
        def __init__(self, down):
            self.down = down

        async def __call__(self):
            return "front of " + await self.down.remote()

    handle = run(Front.bind(Down.bind()), route_prefix="/one")
    assert handle.remote().result() == "front of down"
    run(Down.bind(), route_prefix="/two")
    assert serve.get_app_handle("update").remote().result() == "down"
    eventually(lambda: list(serve.status().applications["update"].deployments) == ["Down"])
    serve.run(Down.bind(), name="other", route_prefix="/one")  # the route is free again


def test_a_deploy_that_is_under_way_gives_way_to_the_next(node):
    @serve.deployment(name="D")
    class Stuck:
        def __init__(self):
            time.sleep(600)

    @serve.deployment(name="D")
    class Good:
        def __call__(self):
            return "good"

    errors = []

    def stuck():
        try:
            run(Stuck.bind())
        except RuntimeError as e:
            errors.append(str(e))

    first = threading.Thread(target=stuck)
    first.start()
    eventually(lambda: "update" in serve.status().applications)
    assert run(Good.bind()).remote().result() == "good"
    first.join()
    assert "another deploy has taken its place" in errors[0]


def test_a_cell_that_runs_again(node):
    def cell(word):
        @serve.deployment
        class Cell:
            def __call__(self):
                return word

        return run(Cell.bind())

    handle = cell("a")
    assert handle.remote().result() == "a"
    for word in ("a", "b", "c"):
        assert cell(word).remote().result() == word == handle.remote().result()
