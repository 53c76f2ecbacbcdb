"""Server-sent events."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any, Optional


@dataclasses.dataclass
class Event:
    """An item of a generator with which the generator chooses the fields of a server-sent event.

    Items of other types are served as events, too, to clients that ask for them (`Accept: text/event-stream`): then each item is the
    data of an event. Clients that ask for no events get an Event as JSON.

    Attributes:
        data: A str as it is, bytes in base64, other values as JSON. None: the event has no data, and browsers do not show it to a page.
        event: Name of the event. "end" and "error" are used for the end of a stream.
        id: Text that a browser that connects again sends back, in the header Last-Event-ID.
        retry: Seconds after which a browser connects again.
    """

    data: Any = None
    event: Optional[str] = None
    id: Optional[str] = None
    retry: Optional[float] = None

    def fields(self) -> dict:
        """The fields that are set, as they travel (docs/wire.md)."""
        fields: dict = {}
        if self.id is not None:
            fields["id"] = str(self.id)
        if self.event is not None:
            fields["event"] = str(self.event)
        if self.retry is not None:
            fields["retry"] = max(1, round(self.retry * 1000))
        if self.data is not None:
            binary = isinstance(self.data, (bytes, bytearray, memoryview))
            fields["data"] = base64.b64encode(self.data).decode() if binary else self.data
        return fields
