"""Blobs over bytes, and short ways to open and read artifacts."""

from collections.abc import Iterator, Mapping, Sequence

from lineage.domain.errors import SourceError
from lineage.domain.revision import Coverage, FileInfo
from lineage.weights.layout import group
from lineage.weights.open import open_reader
from lineage.weights.reader import TensorInfo, WeightReader


class BytesBlob:
    """Bytes in memory as a blob that counts what is read and refuses what lies outside."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.size = len(data)
        self.data = data
        self.bytes_read = 0
        self.largest = 0
        self.closed = False

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise SourceError(f"{self.name}: {offset}+{length} outside", reason="truncated")
        self.bytes_read += length
        self.largest = max(self.largest, length)
        return self.data[offset : offset + length]

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(offset, length) for offset, length in ranges]

    def stream(self, offset: int, length: int, chunk: int) -> Iterator[memoryview]:
        for at in range(offset, offset + length, chunk):
            yield memoryview(self.read(at, min(chunk, offset + length - at)))

    def close(self) -> None:
        self.closed = True


class Repo:
    """Files in memory, opened as the crawler opens them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.blobs: dict[str, BytesBlob] = {}
        infos = [FileInfo(path=path, size=len(data)) for path, data in files.items()]
        self.specs = group(infos)

    def blob(self, file: FileInfo) -> BytesBlob:
        self.blobs[file.path] = BytesBlob(file.path, self.files[file.path])
        return self.blobs[file.path]

    def open(self, name: str | None = None, coverage: Coverage = Coverage.FULL) -> WeightReader:
        [spec] = [s for s in self.specs if name in {None, s.name}]
        return open_reader(spec, self.blob, self.files.get, coverage)


def open_one(name: str, data: bytes) -> WeightReader:
    return Repo({name: data}).open()


def stored(reader: WeightReader, tensor: TensorInfo, chunk: int = 1 << 20) -> bytes:
    """Return a tensor's bytes, checking that its chunks follow one another."""
    parts, at = [], 0
    for piece in reader.chunks(tensor, chunk):
        assert piece.start == at
        at += piece.count
        parts.append(bytes(piece.raw))
    if tensor.nbytes:
        shape = tensor.values_shape or tensor.shape
        total = 1
        for extent in shape:
            total *= extent
        assert at == total
    return b"".join(parts)


def by_name(reader: WeightReader) -> dict[str, TensorInfo]:
    return {t.name: t for t in reader.tensors()}
