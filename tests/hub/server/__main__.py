"""Serve a folder until interrupted: `python -m tests.hub.server FOLDER [PORT]`."""

import sys
import threading
from pathlib import Path

from tests.hub.server import serve_folder


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m tests.hub.server FOLDER [PORT]", file=sys.stderr)  # noqa: T201
        return 2
    port = int(arguments[1]) if len(arguments) == 2 else 0
    with serve_folder(Path(arguments[0]), port=port) as server:
        try:
            print(f"HF_ENDPOINT={server.endpoint}", flush=True)  # noqa: T201
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
