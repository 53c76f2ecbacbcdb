"""Ranks of replicas, the number of ranks, and the identity of a replica, by serve.get_replica_context()."""

import os
import signal

import pytest
from eventually import eventually

from helve import serve
from helve.serve import request_router
from helve.serve._replica import ReplicaID
from helve.serve.exceptions import DeploymentUnavailableError
from helve.serve.handle import DeploymentID
from helve.serve.schema import ReplicaRank


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


@serve.deployment(version="1", user_config="a")
class Ranked:
    def __init__(self):
        self.told = [serve.get_replica_context().rank.rank]

    def reconfigure(self, user_config, rank):
        self.told.append((user_config, rank.rank))

    def state(self):
        c = serve.get_replica_context()
        return {"rank": c.rank.rank, "world": c.world_size, "pid": os.getpid(), "told": self.told, "id": c.replica_id.unique_id}


def run(app, **options):
    return serve.run(app, name="ranks", route_prefix=None, **options)


def states(handle):
    """The state of each replica, by rank; None while two have the same, or there is none."""
    try:
        found = [e.value for e in handle.broadcast("state").entries() if isinstance(e.value, dict)]
    except DeploymentUnavailableError:  # a moment without a replica
        return None
    by_rank = {s["rank"]: s for s in found}
    return by_rank if len(by_rank) == len(found) else None


def settled(handle, n):
    """The states when n replicas have the ranks 0 to n-1, and each knows that there are n."""
    def look():
        found = states(handle)
        return found if found and sorted(found) == list(range(n)) and all(s["world"] == n for s in found.values()) else None

    return eventually(look)


def test_replicas_have_the_ranks_from_0_and_the_replica_in_the_place_of_another_has_its_rank(node):
    handle = run(Ranked.options(num_replicas=3).bind())
    before = settled(handle, 3)
    assert all(s["told"] == [rank, ("a", rank)] for rank, s in before.items())
    os.kill(before[1]["pid"], signal.SIGKILL)
    after = eventually(lambda: (f := settled(handle, 3))[1]["pid"] != before[1]["pid"] and f)
    assert {r: after[r]["id"] for r in (0, 2)} == {r: before[r]["id"] for r in (0, 2)}
    assert after[1]["told"] == [1, ("a", 1)]


def test_ranks_stay_contiguous_when_replicas_go_and_those_that_need_not_change_keep_theirs(node):
    handle = run(Ranked.options(num_replicas=3).bind())
    before = settled(handle, 3)
    run(Ranked.options(num_replicas=2).bind())
    after = settled(handle, 2)
    old = {s["id"]: rank for rank, s in before.items()}
    for rank, s in after.items():
        was = old[s["id"]]
        assert was == rank or was == 2  # the rank 2 is not there any more
        assert s["told"] == [was, ("a", was)] + ([("a", rank)] if was != rank else [])
    run(Ranked.options(num_replicas=4).bind())
    more = settled(handle, 4)
    assert {more[r]["id"] for r in (0, 1)} == {s["id"] for s in after.values()}


def test_a_change_of_the_user_config_gives_the_rank_too(node):
    handle = run(Ranked.options(num_replicas=2).bind())
    settled(handle, 2)
    run(Ranked.options(num_replicas=2, user_config="b").bind())
    assert {rank: s["told"] for rank, s in settled(handle, 2).items()} == {r: [r, ("a", r), ("b", r)] for r in (0, 1)}


def test_replicas_of_the_next_version_have_the_ranks_from_0(node):
    handle = run(Ranked.options(num_replicas=2).bind())
    settled(handle, 2)
    run(Ranked.options(num_replicas=2, version="2").bind())
    assert {rank: s["told"] for rank, s in settled(handle, 2).items()} == {r: [r, ("a", r)] for r in (0, 1)}


def test_reconfigure_with_a_rank_is_called_without_a_user_config(node):
    @serve.deployment
    class Shard:
        def reconfigure(self, user_config, rank):
            self.told = user_config, rank

        def get(self):
            return self.told

    assert run(Shard.bind()).get.remote().result() == (None, ReplicaRank(rank=0, node_rank=0, local_rank=0))


def test_a_replica_that_refuses_its_rank_is_replaced(node):
    @serve.deployment(version="1")
    class Picky:
        def __init__(self):
            self.ranks = []

        def reconfigure(self, user_config, rank):
            self.ranks.append(rank.rank)
            if len(self.ranks) > 1:
                raise ValueError("no second rank")

        def state(self):
            c = serve.get_replica_context()
            return {"rank": c.rank.rank, "world": c.world_size, "pid": os.getpid(), "ranks": self.ranks}

    handle = run(Picky.options(num_replicas=2).bind())
    before = settled(handle, 2)
    assert all(s["ranks"] == [rank] for rank, s in before.items())
    run(Picky.options(num_replicas=1).bind())
    eventually(lambda: (f := states(handle)) and list(f) == [0] and f[0]["ranks"] == [0])  # also if the replica of rank 0 has stopped


def test_the_context_of_a_replica(node):
    @serve.deployment
    class Who:
        def __init__(self):
            self.early = serve.get_replica_context().servable_object

        def get(self):
            c = serve.get_replica_context()
            assert c.servable_object is self and self.early is None and c.gang_context is None
            return c.app_name, c.deployment, c.replica_tag, c.replica_id, c.code_version

        def version(self):
            return serve.get_replica_context().code_version

    handle = run(Who.options(version="v7").bind())
    app, deployment, tag, id, version = handle.get.remote().result()
    assert (app, deployment, version) == ("ranks", "Who", "v7") and id == ReplicaID(tag, DeploymentID("Who", "ranks"))
    first = run(Who.bind()).version.remote().result()
    assert first and run(Who.bind()).version.remote().result() != first


def test_the_identity_of_a_replica():
    id = ReplicaID("D#001", DeploymentID("D", "app"))
    assert request_router.ReplicaID is ReplicaID
    assert str(id) == "Replica(id='D#001', deployment='D', app='app')"
    assert id.to_full_id_str() == "SERVE_REPLICA::app#D#D#001" and ReplicaID.from_full_id_str(id.to_full_id_str()) == id
    assert {id: 1}[ReplicaID("D#001", DeploymentID("D", "app"))] == 1 and id != ReplicaID("D#002", id.deployment_id)
    with pytest.raises(ValueError, match="no full id of a replica"):
        ReplicaID.from_full_id_str("D#001")


def test_outside_of_a_replica_there_is_no_context():
    with pytest.raises(serve.exceptions.RayServeException, match=r"`serve.get_replica_context\(\)` may only be called from within"):
        serve.get_replica_context()
