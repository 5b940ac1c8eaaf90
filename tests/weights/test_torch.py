"""Files of torch.save: what torch would show, and never any code."""

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.weights import torchzip, views
from tests.weights.support import BytesBlob, Repo, by_name, open_one, stored
from tests.weights.test_safetensors import CHANGES, flipped, read_all

BASE = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
STATES: dict[str, torch.Tensor] = {
    "plain": BASE, "transposed": BASE.t(), "sliced": BASE[3:9, ::2], "row": BASE[5],
    "column": BASE[:, 7], "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "half": BASE.half(), "brain": BASE.bfloat16(), "small": torch.ones(5).to(torch.float8_e4m3fn),
    "parameter": torch.nn.Parameter(torch.arange(3.0)), "expanded": torch.ones(1, 1).expand(3, 5),
    "empty": torch.empty(0, 3), "scalar": torch.tensor(2.5), "long": torch.arange(5),
    "complex": torch.ones(2, dtype=torch.complex64), "mask": torch.tensor([True, False]),
    "unsigned": torch.tensor([1, 2, 65535], dtype=torch.uint16),
}  # fmt: skip


def saved(value: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def raw(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_views_come_out_in_row_major_order(legacy: bool, chunk: int) -> None:
    reader = open_one("m.bin", saved(STATES, legacy))
    assert sorted(by_name(reader)) == sorted(STATES)
    for info in reader.tensors():
        assert info.shape == tuple(STATES[info.name].shape)
        assert stored(reader, info, chunk) == raw(STATES[info.name]), info.name


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pieces_of_views(legacy: bool) -> None:
    reader = open_one("m.bin", saved(STATES, legacy))
    wanted = [(t, [(1, 2), (0, STATES[t.name].numel())]) for t in reader.tensors()
              if STATES[t.name].numel() > 2]  # fmt: skip
    for (info, _), (part, whole) in zip(wanted, reader.pieces(wanted), strict=True):
        size = info.dtype.itemsize
        assert whole == raw(STATES[info.name])
        assert part == whole[size : 3 * size]


def test_a_large_transposed_view_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_PANEL", 1000)
    monkeypatch.setattr(views, "_EXTENT", 500)
    repo = Repo({"m.bin": saved(STATES)})
    reader = repo.open()
    pickle_bytes = repo.blobs["m.bin"].largest
    for info in reader.tensors():
        assert stored(reader, info, 256) == raw(STATES[info.name]), info.name
    assert repo.blobs["m.bin"].largest == pickle_bytes  # nothing larger than the header was read


def test_wrappers_are_left_out_and_training_states_skipped() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    names = sorted(module.state_dict())
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    for tree in (
        module.state_dict(),
        {"state_dict": module.state_dict(), "optimizer": optimizer, "epoch": 3},
        {"model": {"state_dict": module.state_dict()}, "optimizer_states": [optimizer]},
        module,
    ):
        for legacy in (False, True):
            assert sorted(by_name(open_one("m.ckpt", saved(tree, legacy)))) == names
    both = {"model": {"w": torch.ones(1)}, "ema": {"w": torch.zeros(1)}}
    assert sorted(by_name(open_one("m.pt", saved(both)))) == ["ema.w", "model.w"]


def test_a_model_whose_names_start_alike_keeps_them() -> None:
    state = {"model.a": torch.ones(1), "model.b": torch.ones(1)}
    assert sorted(by_name(open_one("m.bin", saved(state)))) == ["model.a", "model.b"]


def test_tied_weights_are_two_tensors_of_one_storage() -> None:
    data = saved({"embed": BASE, "head": BASE})
    reader = open_one("m.bin", data)
    assert [stored(reader, t) for t in reader.tensors()] == [raw(BASE)] * 2
    assert len(data) < 2 * BASE.nbytes


class Evil:
    """Would run a command if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_inert(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "ran"
    state = {"w": torch.ones(2), "x": Evil(target), "y": [Evil(target)], 3: {"z": Evil(target)}}
    reader = open_one("m.bin", saved(state, legacy))
    assert sorted(by_name(reader)) == ["w"]
    assert stored(reader, reader.tensors()[0]) == raw(torch.ones(2))
    assert not target.exists()


def archive(pickled: bytes, members: dict[str, bytes] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as zipped:
        zipped.writestr("archive/data.pkl", pickled)
        for name, data in (members or {}).items():
            zipped.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def described(numel: Any = 4, offset: Any = 0, size: Any = (4,), stride: Any = (1,)) -> bytes:
    """Return the pickle of one tensor 'w' as torch.save writes it, with any numbers."""

    def value(x: Any) -> bytes:
        return pickle.dumps(x, 2)[2:-1]

    storage = b"(" + value("storage") + b"ctorch\nFloatStorage\n" + value("0") + value("cpu")
    storage += value(numel) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + value(offset) + value(size)
    call += value(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + value("w") + call + b"s."


def test_the_hand_made_tensor_is_sound() -> None:
    reader = open_one("m.bin", archive(described(), {"data/0": bytes(16)}))
    assert reader.tensors()[0].shape == (4,)


def test_deflated_members_are_inflated_in_bounds() -> None:
    data = archive(described(), {"data/0": raw(torch.arange(4.0))},
                   compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    reader = open_one("m.bin", data)
    [info] = reader.tensors()
    assert stored(reader, info, 4) == raw(torch.arange(4.0))
    assert reader.pieces([(info, [(2, 1), (0, 1)])]) == [
        [raw(torch.tensor([2.0])), raw(torch.tensor([0.0]))]
    ]


def bomb(claim: int) -> bytes:
    """Return an archive whose deflated storage claims `claim` bytes."""
    data = bytearray(archive(described(numel=1 << 30, size=(1 << 30,)), {"data/0": bytes(1 << 20)},
                             compression=zipfile.ZIP_DEFLATED))  # fmt: skip
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", claim)
    return bytes(data)


def overlapping() -> bytes:
    data = bytearray(archive(described(), {"data/0": bytes(16), "data/1": bytes(16)}))
    last = data.rfind(b"PK\x01\x02")
    before = data.rfind(b"PK\x01\x02", 0, last)
    data[last + 42 : last + 46] = data[before + 42 : before + 46]
    return bytes(data)


def nested_key() -> bytes:
    return b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."


SOUND = {"data/0": bytes(16)}
ATTACKS = {
    "truncated zip": saved({"w": BASE})[:-30],
    "no data.pkl": archive(b"").replace(b"data.pkl", b"data.pkx"),
    "empty pickle": archive(b""),
    "no tensors": archive(pickle.dumps({"a": 1}, 2)),
    "stack underflow": archive(b"\x80\x02R."),
    "mark only": archive(b"\x80\x02(."),
    "unknown memo": archive(b"\x80\x02h\x05."),
    "unknown opcode": archive(b"\x80\x02\xff."),
    "no stop": archive(b"\x80\x02}"),
    "out-of-band buffer": archive(b"\x80\x05\x97."),
    "string beyond the end": archive(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f."),
    "nested key": archive(nested_key()),
    "storage that is not there": archive(described()),
    "storage too short": archive(described(), {"data/0": bytes(15)}),
    "offset beyond the storage": archive(described(offset=1), SOUND),
    "negative offset": archive(described(offset=-1), SOUND),
    "negative extent": archive(described(size=(-4,)), SOUND),
    "negative stride": archive(described(stride=(-1,)), SOUND),
    "endless extent": archive(described(size=(1 << 63,)), SOUND),
    "overflowing extents": archive(described(size=(1 << 40, 1 << 40), stride=(0, 0)), SOUND),
    "expanded beyond reason": archive(described(size=(1 << 40,), stride=(0,)), SOUND),
    "stride and shape disagree": archive(described(size=(2, 2)), SOUND),
    "text for a shape": archive(described(size="ab"), SOUND),
    "text for a size": archive(described(numel="4"), SOUND),
    "two members of one name": archive(described(), SOUND).replace(b"data/0", b"data.pkl"[:6]),
    "bomb": bomb(0xFFFFFFF0),
    "bomb within the ratio": bomb(1 << 20 | 1),
    "overlapping members": overlapping(),
    "big endian": archive(described(), {**SOUND, "byteorder": b"big"}),
    "lzma": archive(described(), SOUND, compression=zipfile.ZIP_LZMA),
    "plain pickle": pickle.dumps({"a": 1}, 2),
    "legacy cut": saved({"w": BASE}, legacy=True)[:-1],
    "tar": b"\0" * 257 + b"ustar" + b"\0" * 300,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_by_name(attack: str) -> None:
    with pytest.raises(WeightFormatError, match=r"evil\.bin"):  # noqa: PT012
        reader = open_one("evil.bin", ATTACKS[attack])
        for info in reader.tensors():
            for chunk in reader.chunks(info, 1 << 20):
                assert len(chunk.raw) <= 1 << 20


def test_many_views_of_one_storage_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchzip, "_SLACK", 0)
    shared = {str(i): BASE for i in range(100)}
    with pytest.raises(WeightFormatError, match="far more tensor bytes"):
        open_one("m.bin", saved(shared))


def test_sparse_tensors_are_unsupported() -> None:
    with pytest.raises(UnsupportedWeightsError, match="sparse"):
        open_one("m.bin", saved({"w": torch.eye(2).to_sparse()}))


def test_cycles_end() -> None:
    tree: dict[str, Any] = {"w": torch.ones(1)}
    tree["self"] = tree
    assert sorted(by_name(open_one("m.bin", saved(tree)))) == ["w"]


def test_shards_are_one_reader_and_must_not_repeat() -> None:
    def files(second: str) -> dict[str, bytes]:
        return {
            "pytorch_model-00001-of-00002.bin": saved({"a": torch.ones(1)}),
            "pytorch_model-00002-of-00002.bin": saved({second: torch.ones(1)}),
        }

    assert sorted(by_name(Repo(files("b")).open())) == ["a", "b"]
    with pytest.raises(WeightFormatError, match="another shard"):
        Repo(files("a")).open()


def test_reading_starts_at_the_end_and_spares_the_weights() -> None:
    data = saved({"w": torch.zeros(1 << 20)})
    repo = Repo({"m.bin": data})
    repo.open()
    assert repo.blobs["m.bin"].bytes_read < 100_000


SMALL = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": collections.OrderedDict(c=torch.ones(2))}
VALID = [saved(SMALL), saved(SMALL, legacy=True),
         archive(described(), SOUND, compression=zipfile.ZIP_DEFLATED)]  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(VALID), CHANGES, st.booleans(), st.integers(0, 2000))
def test_damage_never_escapes_as_another_error(
    valid: bytes, changes: list[tuple[int, int]], cuts: bool, cut: int
) -> None:
    data = flipped(valid, changes)
    data = data[:cut] if cuts else data
    repo = Repo({"m.bin": data})
    read_all(repo.open)
    blob = repo.blobs["m.bin"]
    assert isinstance(blob, BytesBlob)
    assert blob.largest <= len(data)
