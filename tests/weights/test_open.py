"""Files are opened for what they hold, not for what they are called."""

import io

import numpy as np
import pytest
import torch
from safetensors.torch import save

from lineage.domain.errors import SourceError, WeightFormatError
from lineage.domain.revision import Coverage, FileInfo
from lineage.weights.layout import group
from lineage.weights.open import open_reader
from tests.weights.support import BytesBlob, Repo, open_one

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
ZIP = b"PK\x03\x04" + bytes(100)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("m.safetensors", POINTER, "Git LFS pointer"),
        ("m.bin", POINTER, "Git LFS pointer"),
        ("m.gguf", POINTER, "Git LFS pointer"),
        ("m.safetensors", b"<!DOCTYPE html><html>", "web page"),
        ("m.bin", b"\n  <html>", "web page"),
        ("m.safetensors", b'{"error":"Repository not found"}', "message"),
        ("m.bin", b"Entry not found", "message"),
        ("m.safetensors", b"", "is empty"),
        ("m.safetensors", ZIP, "named as safetensors but holds torch"),
        ("m.gguf", ZIP, "named as gguf but holds torch"),
        ("m.safetensors", b"GGUF" + bytes(40), "named as safetensors but holds gguf"),
        ("m.safetensors", b"\x80\x02}q\x00.", "named as safetensors but holds torch"),
        ("m.bin", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("m.bin", b"tjgg" + bytes(40), "GGML"),
        ("m.bin", b"random bytes", "no torch file"),
        ("m.gguf", b"random bytes", "no gguf file"),
        ("m.bin", b"\x80", "no torch file"),
    ],
)
def test_impostors_are_named(name: str, data: bytes, says: str) -> None:
    with pytest.raises(WeightFormatError, match=says) as caught:
        open_one(name, data)
    assert name in str(caught.value)


def test_safetensors_named_bin_is_read() -> None:
    assert open_one("pytorch_model.bin", save({"a": torch.ones(1)})).format == "safetensors"


def test_shards_of_two_formats_are_refused() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer)
    files = {"m-00001-of-00002.bin": buffer.getvalue(), "m-00002-of-00002.bin": save({})}
    with pytest.raises(WeightFormatError, match="different formats"):
        Repo(files).open()


def test_blobs_are_closed_when_opening_fails_and_when_done() -> None:
    repo = Repo({"m.safetensors": b"garbage garbage"})
    with pytest.raises(WeightFormatError):
        repo.open()
    assert repo.blobs["m.safetensors"].closed
    repo = Repo({"m.safetensors": save({"a": torch.ones(1)})})
    repo.open().close()
    assert repo.blobs["m.safetensors"].closed


def test_a_source_that_fails_half_way_leaves_nothing_open() -> None:
    opened: list[BytesBlob] = []

    def blob(file: FileInfo) -> BytesBlob:
        if opened:
            raise SourceError("gone", reason="gone")
        opened.append(BytesBlob(file.path, save({})))
        return opened[-1]

    paths = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    [spec] = group([FileInfo(path=p, size=8) for p in paths])
    with pytest.raises(SourceError):
        open_reader(spec, blob, lambda _: None)
    assert opened[0].closed


def test_packed_quantizations_get_a_label() -> None:
    def names(tensors: dict[str, torch.Tensor]) -> dict[str, str | None]:
        reader = Repo({"m.safetensors": save(tensors)}).open(coverage=Coverage.NONE)
        return {t.name: t.quant for t in reader.tensors()}

    i32 = torch.int32
    gptq = {
        "l.qweight": torch.zeros(8, 16, dtype=i32), "l.qzeros": torch.zeros(1, 2, dtype=i32),
        "l.scales": torch.ones(1, 16), "l.g_idx": torch.zeros(64, dtype=i32),
    }  # fmt: skip
    awq = {
        "l.qweight": torch.zeros(64, 2, dtype=i32), "l.qzeros": torch.zeros(1, 2, dtype=i32),
        "l.scales": torch.ones(1, 16),
    }  # fmt: skip
    u8 = torch.uint8
    nf4 = {
        "l.weight": torch.zeros(32, 1, dtype=u8), "l.weight.absmax": torch.ones(1),
        "l.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=u8),
    }  # fmt: skip
    int8 = {"l.weight": torch.zeros(4, 4, dtype=torch.int8), "l.SCB": torch.ones(4)}
    fp8 = {"l.weight": torch.ones(4).to(torch.float8_e4m3fn), "l.weight_scale": torch.ones(1)}
    mxfp4 = {"e_blocks": torch.zeros(4, 16, dtype=u8), "e_scales": torch.zeros(4, dtype=u8)}
    assert names(gptq)["l.qweight"] == "gptq-4"
    assert names(awq)["l.qweight"] == "awq-4"
    assert names(nf4)["l.weight"] == "bnb-nf4"
    assert names(int8)["l.weight"] == "bnb-int8"
    assert names(fp8)["l.weight"] == "fp8-scaled"
    assert names(mxfp4)["e_blocks"] == "mxfp4"
    assert names({"l.weight": torch.zeros(4, dtype=u8)})["l.weight"] is None
    assert set(names({"a.weight": torch.ones(2)}).values()) == {None}


def test_labelled_integers_read_as_themselves() -> None:
    tensors = {"l.weight": torch.arange(-4, 4, dtype=torch.int8), "l.SCB": torch.ones(4)}
    # a vector has no rows that SCB could scale
    reader = open_one("m.safetensors", save(tensors))
    [info] = [t for t in reader.tensors() if t.quant]
    raw = b"".join(bytes(c.raw) for c in reader.chunks(info, 3))
    assert np.frombuffer(raw, "i1").tolist() == list(range(-4, 4))


def test_a_safetensors_header_whose_length_looks_like_a_pickle_is_read() -> None:
    from safetensors.torch import save

    size = next(
        n
        for n in range(1, 2000)
        if save({"w": torch.ones(2)}, {"note": "x" * n})[:2] == b"\x80\x02"
    )
    reader = open_one("m.safetensors", save({"w": torch.ones(2)}, {"note": "x" * size}))
    assert reader.format == "safetensors"
