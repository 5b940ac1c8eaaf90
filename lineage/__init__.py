"""Answer what descends from an open-weight model, how we know, and how much of it is inside."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lineage")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
