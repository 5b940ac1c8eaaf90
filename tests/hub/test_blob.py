"""Blobs: exact bytes, few requests, and what happens when the line breaks."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.domain.errors import SourceError
from lineage.domain.revision import FileInfo
from lineage.hub.blob import Blob
from lineage.hub.hubsource import HubSource
from lineage.hub.local import LocalBlob
from lineage.hub.ranges import coalesce
from lineage.hub.source import Listing, Snapshot
from tests.hub.asking import Sleeps
from tests.hub.server import Commit, HubServer, Repo

DATA = Random(7).randbytes(1_000_000)
CDN = r"GET cdn .*model\.safetensors"


@pytest.fixture
def source(hub_server: HubServer, sleeps: Sleeps) -> Iterator[HubSource]:
    files = {"model.safetensors": DATA, "vocab.txt": b"a small text\n" * 50}
    hub_server.add(Repo("org/model", [Commit(files)]))
    made = HubSource(hub_server.endpoint, token="hf_secret", sleep=sleeps, timeout=5.0)
    yield made
    made.close()


def opened(source: HubSource, name: str = "model.safetensors") -> tuple[Snapshot, FileInfo]:
    snapshot = source.snapshot(Listing("org/model", None))
    return snapshot, next(f for f in snapshot.files if f.path == name)


@pytest.fixture
def blob(source: HubSource, hub_server: HubServer) -> Blob:
    found = source.blob(*opened(source))
    hub_server.log.clear()
    return found


def local(tmp_path: Path) -> Blob:
    path = tmp_path / "model.safetensors"
    path.write_bytes(DATA)
    return LocalBlob(path)


@pytest.fixture(params=["local", "remote"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Blob:
    if request.param == "local":
        return local(tmp_path)
    found: Blob = request.getfixturevalue("blob")
    return found


def test_every_blob_reads_exactly_what_is_asked(either: Blob) -> None:
    assert either.size == len(DATA)
    assert either.name == "model.safetensors"
    assert either.read(0, 8) == DATA[:8]
    assert either.read(999_990, 10) == DATA[-10:]
    assert either.read(500, 0) == b""
    ranges = [(900_000, 100), (0, 16), (300_000, 5_000), (10, 20), (5, 0), (300_100, 10)]
    assert either.read_ranges(ranges) == [DATA[o : o + n] for o, n in ranges]
    pieces = [bytes(p) for p in either.stream(123, 500_000, 65_536)]
    assert b"".join(pieces) == DATA[123:500_123]
    assert {len(p) for p in pieces[:-1]} == {65_536}
    assert [bytes(p) for p in either.stream(7, 0, 10)] == []
    either.close()
    either.close()


@pytest.mark.parametrize(("offset", "length"), [(-1, 4), (0, 1_000_001), (1_000_000, 1), (5, -1)])
def test_a_range_outside_the_file_is_refused(either: Blob, offset: int, length: int) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: either.read(offset, length),
        lambda: either.read_ranges([(0, 1), (offset, length)]),
        lambda: list(either.stream(offset, length, 10)),
    ]
    for attempt in attempts:
        with pytest.raises(SourceError) as refused:
            attempt()
        assert refused.value.reason == "invalid"
        assert "model.safetensors" in str(refused.value)


def test_threads_share_a_blob(either: Blob) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(20):
            offset, length = random.randrange(900_000), random.randrange(1, 50_000)
            if either.read(offset, length) != DATA[offset : offset + length]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_local_file_that_changes_is_noticed(tmp_path: Path) -> None:
    blob = local(tmp_path)
    path = tmp_path / "model.safetensors"
    about = path.stat()
    path.write_bytes(bytes(len(DATA)))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    with pytest.raises(SourceError) as changed:
        blob.read(0, 10)
    assert changed.value.reason == "changed"
    path.write_bytes(b"short")
    with pytest.raises(SourceError, match="changed"):
        list(blob.stream(0, len(DATA), 1000))
    blob.close()
    with pytest.raises(SourceError, match="closed"):
        blob.read(0, 1)


def test_a_local_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path / "no", "gone"), (tmp_path, "invalid")):
        with pytest.raises(SourceError) as refused:
            LocalBlob(path)
        assert refused.value.reason == reason
    with pytest.raises(SourceError, match="not a regular file"):
        LocalBlob(tmp_path / "pipe")


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=25),
    st.integers(0, 40),
    st.integers(1, 200),
)
def test_coalesced_spans_hold_every_range(
    ranges: list[tuple[int, int]], gap: int, largest: int
) -> None:
    spans = coalesce(ranges, gap, largest)
    held = sorted(i for s in spans for i in s.members)
    assert held == sorted(i for i, r in enumerate(ranges) if r[1])
    for span in spans:
        parts = [ranges[i] for i in span.members]
        assert min(o for o, _ in parts) == span.offset
        assert max(o + n for o, n in parts) == span.offset + span.length
        assert span.length <= max(largest, *(n for _, n in parts))
        covered = sum(n for _, n in parts)
        assert span.length <= covered + gap * (len(parts) - 1)


def test_only_the_bytes_asked_for_are_sent(hub_server: HubServer, blob: Blob) -> None:
    assert blob.read(1_000, 500) == DATA[1_000:1_500]
    assert hub_server.log.sent("org/model", "model.safetensors") == 500
    blob.read(5_000, 10)
    assert len(hub_server.log.find("HEAD hub /org/model/resolve")) == 1
    assert len(hub_server.log.find("GET hub")) == 0
    assert [r.range for r in hub_server.log.find(CDN)] == ["bytes=1000-1499", "bytes=5000-5009"]


def test_near_ranges_are_fetched_together(hub_server: HubServer, blob: Blob) -> None:
    near = [(100, 50), (200, 50), (10_000, 50)]
    far = [(500_000, 10), (900_000, 10)]
    assert blob.read_ranges(near + far) == [DATA[o : o + n] for o, n in near + far]
    asked = {r.range for r in hub_server.log.find(CDN)}
    assert asked == {"bytes=100-10049", "bytes=500000-500009", "bytes=900000-900009"}
    assert len(hub_server.log.find("HEAD")) == 1
    assert hub_server.log.sent() == 9_950 + 20


def test_the_token_stays_on_the_hub(hub_server: HubServer, blob: Blob) -> None:
    blob.read(0, 10)
    assert {r.authorization for r in hub_server.log.find("hub ")} == {"Bearer hf_secret"}
    assert {r.authorization for r in hub_server.log.find("cdn ")} == {None}


def test_a_stream_goes_on_where_it_broke_off(
    hub_server: HubServer, blob: Blob, sleeps: Sleeps
) -> None:
    hub_server.faults.add(CDN, "truncate", at=300_001)
    hub_server.faults.add(CDN, "reset", at=200_002)
    assert b"".join(bytes(p) for p in blob.stream(0, len(DATA), 65_536)) == DATA
    starts = [int((r.range or "")[6:].split("-")[0]) for r in hub_server.log.find(CDN)]
    assert starts[:2] == [0, 300_001]
    assert len(starts) == 3
    assert 300_001 <= starts[2] <= 500_003  # a reset may lose what was on its way
    assert hub_server.faults.left == 0
    assert sleeps


@pytest.mark.parametrize("kind", ["status:503", "status:500", "429", "reset", "wrong_range"])
def test_faults_are_tried_again(hub_server: HubServer, blob: Blob, kind: str) -> None:
    hub_server.faults.add(CDN, kind, times=2)
    assert blob.read(4_000, 100) == DATA[4_000:4_100]
    assert hub_server.faults.left == 0


@pytest.mark.parametrize("kind", ["status:503", "429", "reset"])
def test_faults_of_resolving_are_tried_again(hub_server: HubServer, blob: Blob, kind: str) -> None:
    hub_server.faults.add("HEAD hub", kind, times=2)
    assert blob.read(4_000, 100) == DATA[4_000:4_100]
    assert len(hub_server.log.find("HEAD")) == 3


def test_a_gate_is_told_apart_from_a_fault(hub_server: HubServer, blob: Blob) -> None:
    hub_server.faults.add("HEAD hub", "gated")
    with pytest.raises(SourceError) as refused:
        blob.read(0, 10)
    assert refused.value.reason == "gated"
    assert len(hub_server.log) == 1


def test_a_silent_server_is_tried_again(hub_server: HubServer, sleeps: Sleeps) -> None:
    hub_server.add(Repo("org/model", [Commit({"model.safetensors": DATA})]))
    source = HubSource(hub_server.endpoint, token=False, timeout=0.3, sleep=sleeps)
    blob = source.blob(*opened(source))
    hub_server.faults.add(CDN, "timeout", seconds=2.0)
    assert blob.read(10, 10) == DATA[10:20]
    assert len(sleeps) == 1


def test_faults_that_stay_end_in_an_error(
    hub_server: HubServer, blob: Blob, sleeps: Sleeps
) -> None:
    for kind, reason in (("status:503", "network"), ("truncate", "truncated"), ("429", "")):
        hub_server.faults.clear()
        hub_server.faults.add(CDN, kind, times=10_000, seconds=60, at=0)
        before = len(hub_server.log)
        with pytest.raises(SourceError) as failed:
            blob.read(0, 100)
        assert failed.value.reason == (reason or "rate_limited")
        assert "org/model" in str(failed.value)
        assert len(hub_server.log) - before <= 21
    assert sum(sleeps) < 2_000


def test_an_expired_link_is_resolved_again(hub_server: HubServer, blob: Blob) -> None:
    blob.read(0, 10)
    hub_server.faults.add(CDN, "expire")
    assert blob.read(10, 10) == DATA[10:20]
    assert len(hub_server.log.find("HEAD")) == 2
    hub_server.faults.add(CDN, "expire", times=100)
    with pytest.raises(SourceError, match="run out"):
        blob.read(20, 10)


def test_a_link_that_says_when_it_expires_is_not_tried_after(
    hub_server: HubServer, blob: Blob
) -> None:
    hub_server.link_seconds = 2  # within the margin: never good for long
    blob.read(0, 10)
    blob.read(10, 10)
    assert len(hub_server.log.find("HEAD")) == 2
    assert {r.status for r in hub_server.log.find(CDN)} == {206}


def test_a_file_that_is_another_one_is_noticed(hub_server: HubServer, source: HubSource) -> None:
    snapshot, file = opened(source)
    blob = source.blob(snapshot, file)
    blob.read(0, 10)
    hub_server.faults.add(CDN, "etag")
    with pytest.raises(SourceError) as changed:
        blob.read(0, 10)
    assert changed.value.reason == "changed"
    for update in ({"size": 999_999}, {"sha256": "0" * 64}):
        other = source.blob(snapshot, file.model_copy(update=update))
        with pytest.raises(SourceError) as changed:
            other.read(0, 10)
        assert changed.value.reason == "changed"


def test_a_server_without_ranges(hub_server: HubServer, blob: Blob) -> None:
    hub_server.faults.add(CDN, "ignore_range", times=100)
    assert blob.read(4_000, 100) == DATA[4_000:4_100]
    assert b"".join(bytes(p) for p in blob.stream(0, len(DATA), 100_000)) == DATA


@pytest.mark.parametrize("resolve_cache", [False, True])
def test_small_files_come_from_the_hub_itself(
    hub_server: HubServer, source: HubSource, resolve_cache: bool
) -> None:
    hub_server.resolve_cache = resolve_cache
    blob = source.blob(*opened(source, "vocab.txt"))
    assert blob.read(8, 5) == b"text\n"
    assert not hub_server.log.find("cdn")


def test_a_stream_may_be_left_early(hub_server: HubServer, blob: Blob) -> None:
    pieces = blob.stream(0, len(DATA), 10_000)
    assert bytes(next(pieces)) == DATA[:10_000]
    pieces.close()  # type: ignore[attr-defined]
    assert blob.read(5, 5) == DATA[5:10]


def test_a_piece_holds_until_the_next_is_asked_for(hub_server: HubServer, blob: Blob) -> None:
    for i, piece in enumerate(blob.stream(0, 400_000, 100_000)):
        time.sleep(0.05)  # the next one has arrived by now
        assert bytes(piece) == DATA[i * 100_000 : (i + 1) * 100_000]


def test_a_stream_that_fails_says_so_in_its_place(hub_server: HubServer, blob: Blob) -> None:
    hub_server.faults.add(CDN, "truncate", at=150_000)
    hub_server.faults.add(CDN, "status:404", times=100)
    pieces = blob.stream(0, len(DATA), 100_000)
    assert bytes(next(pieces)) == DATA[:100_000]
    with pytest.raises(SourceError):
        next(pieces)


def test_a_big_file_is_streamed_in_little_memory(
    hub_server: HubServer, source: HubSource, tmp_path: Path
) -> None:
    import tracemalloc

    path = tmp_path / "big.safetensors"
    with path.open("wb") as stream:
        stream.truncate(200 * 2**20)
    hub_server.push("org/model", Commit({"big.safetensors": path}))
    blob = source.blob(*opened(source, "big.safetensors"))
    tracemalloc.start()
    try:
        total = sum(len(p) for p in blob.stream(0, blob.size, 4 * 2**20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == blob.size
    assert peak < 32 * 2**20
