"""Helve serves models and any other code as deployments with replicas, composed through handles.

``from helve import serve`` is source-compatible with Ray Serve's API for applications and handles.
"""

from helve._event import Event

__all__ = ["Event"]
__version__ = "0.1.0.dev0"
