"""What is dear and shared is made by one worker only, as the Makefile's workers are started."""

import pytest


def test_the_scheduler_is_told_the_groups(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("not run by workers that keep groups together")
    for item in request.session.items:
        mark = item.get_closest_marker("xdist_group")
        assert mark is None or item.nodeid.endswith(f"@{mark.args[0]}")
