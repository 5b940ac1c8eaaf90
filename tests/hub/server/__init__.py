"""A small real Hub for tests and the demo.

`python -m tests.hub.server FOLDER` serves a folder of `org/name` repositories.
"""

from pathlib import Path
from typing import Any

from tests.hub.server.faults import Fault, Faults, Log, Request
from tests.hub.server.model import Commit, Repo, load_folder
from tests.hub.server.server import HubServer

__all__ = [
    "Commit", "Fault", "Faults", "HubServer", "Log", "Repo", "Request", "load_folder",
    "serve_folder",
]  # fmt: skip


def serve_folder(path: Path, **options: Any) -> HubServer:
    """Return a server (start it, or use it as a context manager) of the folder `path`."""
    return HubServer(load_folder(path), **options)
