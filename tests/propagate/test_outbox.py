"""What was told: kept whole or not at all, by one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from lineage.domain.errors import StoreError
from lineage.domain.exposure import ExposureStatus
from lineage.propagate.outbox import News, Outbox, Parcel, Told

AFFECTED = Told(ExposureStatus.AFFECTED, ExposureStatus.AFFECTED)


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "box.db"
    parcels = [Parcel(f"m{n}", bytes([n])) for n in range(3)]
    with Outbox(path) as box:
        box.write(
            News({("A-1", "x"): AFFECTED}, list(parcels), {"A-1": "v1"}, {"cursor": {"n": 1}})
        )
    with Outbox(path) as box:
        assert box.told("A-1") == {"x": AFFECTED}
        assert box.told("A-2") == {}
        assert (box.seen(), box.note("cursor")) == ({"A-1": "v1"}, {"n": 1})
        assert list(box.waiting()) == parcels
        box.done(parcels[1])
        box.failed(parcels[0], "no")
        assert list(box.waiting()) == [parcels[0], parcels[2]]
        box.write(News({("A-1", "x"): None}, notes={"cursor": None}))
        assert (box.told("A-1"), box.note("cursor"), box.left()) == ({}, None, 2)


def test_a_round_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with Outbox(tmp_path / "box.db") as box:
        twice = [Parcel("same", b""), Parcel("same", b"")]
        with pytest.raises(StoreError):
            box.write(News({("A-1", "x"): AFFECTED}, twice))
        assert (box.told("A-1"), box.left()) == ({}, 0)


def test_one_process_has_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    program = (
        "import sys; from pathlib import Path; from lineage.propagate.outbox import Outbox;"
        f"box = Outbox(Path({str(path)!r})); print('has it', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "has it\n"
    with pytest.raises(StoreError, match="another watch"):
        Outbox(path)
    holder.kill()
    holder.communicate()
    with Outbox(path) as box:
        assert box.left() == 0


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    path.write_text("dear diary, " * 1000)
    with pytest.raises(StoreError, match=r"box\.db"):
        Outbox(path)
