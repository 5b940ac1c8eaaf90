"""Every executor gives the same answers, takes items lazily and stops when told."""

from collections.abc import Iterator
from typing import Any

import pytest

from lineage.domain.errors import UsageError
from lineage.ingest.executor import open_executor
from lineage.ingest.executor.base import Executor


def square(x: int) -> int:
    return x * x


@pytest.fixture(params=["inline", "pool"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = open_executor(request.param, 3)
    yield made
    made.close()


def test_all_items_are_done_once(executor: Executor) -> None:
    assert sorted(executor.map(square, range(100))) == [x * x for x in range(100)]


def test_items_are_taken_only_as_there_is_room(executor: Executor) -> None:
    taken = []

    def items() -> Iterator[int]:
        for x in range(1000):
            taken.append(x)
            yield x

    results = executor.map(square, items())
    next(results)
    assert len(taken) <= 8


def test_an_error_reaches_the_caller(executor: Executor) -> None:
    items: list[Any] = [1, "a"]
    with pytest.raises(TypeError):
        list(executor.map(square, items))


def test_an_unknown_executor_is_refused() -> None:
    with pytest.raises(UsageError, match="inline, pool or ray"):
        open_executor("celery", 2)


class Power:
    """A callable with a state, as jobs are."""

    def __init__(self, exponent: int) -> None:
        self.exponent = exponent

    def __call__(self, x: int) -> int:
        return int(x**self.exponent)


def test_ray_gives_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    executor = open_executor("ray", 2)
    try:
        assert sorted(executor.map(Power(2), range(10))) == [x * x for x in range(10)]
    finally:
        executor.close()
