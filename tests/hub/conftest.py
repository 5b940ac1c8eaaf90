"""What most tests of the hub room start from."""

from collections.abc import Iterator

import pytest

from lineage.hub.hubsource import HubSource
from tests.hub.asking import Sleeps
from tests.hub.server import HubServer


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def source(hub_server: HubServer, sleeps: Sleeps) -> Iterator[HubSource]:
    made = HubSource(token=False, sleep=sleeps, timeout=5.0)
    assert made.endpoint == hub_server.endpoint
    yield made
    made.close()
