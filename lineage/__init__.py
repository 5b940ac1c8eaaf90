"""Answer what descends from an open-weight model, how we know, and how much of it is inside."""


def __getattr__(name: str) -> str:
    # importlib.metadata costs as much as the rest of `lineage --help`: read it when asked for.
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lineage")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0"
