"""The identity of a replica, and its rank as user code sees it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from helve.serve.handle import DeploymentID

_PREFIX = "SERVE_REPLICA::"


@dataclass(frozen=True)
class ReplicaID:
    """A replica by its id.

    Attributes:
        unique_id: The id, which no other replica of the node has or had.
        deployment_id: The names of its deployment and application.
    """

    unique_id: str
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        """All names in one text, for example SERVE_REPLICA::default#Model#Model#003."""
        d = self.deployment_id
        return f"{_PREFIX}{d.app_name}#{d.name}#{self.unique_id}"

    @staticmethod
    def is_full_id_str(text: str) -> bool:
        """Whether a text is one of `to_full_id_str`.

        Args:
            text: The text.
        """
        return text.startswith(_PREFIX)

    @classmethod
    def from_full_id_str(cls, text: str) -> "ReplicaID":
        """The reverse of `to_full_id_str`.

        Args:
            text: All names in one text.

        Raises:
            ValueError: Another text.
        """
        parts = text[len(_PREFIX):].split("#", 2) if cls.is_full_id_str(text) else []
        if len(parts) != 3:
            raise ValueError(f"{text!r} is no full id of a replica: it must be {_PREFIX}APPLICATION#DEPLOYMENT#ID")
        return cls(parts[2], DeploymentID(parts[1], parts[0]))

    def __str__(self) -> str:
        return f"Replica(id='{self.unique_id}', deployment='{self.deployment_id.name}', app='{self.deployment_id.app_name}')"

    __repr__ = __str__


def rank(number: int) -> Any:
    """The rank of a replica as an object. There is one node: its rank is 0, and the rank of the replica on it is the same as in all."""
    from helve.serve.schema import ReplicaRank  # pydantic, loaded only where ranks are used

    return ReplicaRank(rank=number, node_rank=0, local_rank=number)


def takes_rank(reconfigure: Any) -> bool:
    """Whether a method reconfigure has a parameter for the rank."""
    try:
        return "rank" in inspect.signature(reconfigure).parameters
    except (TypeError, ValueError):
        return False
