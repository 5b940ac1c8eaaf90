"""Import advisories that others publish: OSV records."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lineage.domain.errors import ImportFormatError, StoreError
from lineage.domain.osv import from_osv
from lineage.graph.store import Store
from lineage.ingest.events import ImportReport, Problem

_MOST_BYTES = 64 * 1024 * 1024
_MARK = re.compile(rb'"schema_version"\s*:\s*"\d')


def is_osv(head: bytes) -> bool:
    """Tell whether a file that begins so holds OSV records."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") and bool(_MARK.search(head))


def import_osv(store: Store, path: Path, raw: BinaryIO) -> ImportReport:
    """Write the advisories of a file: one record, an array of records, or one on each line.

    Records that make no sense are problems of the report. Raises ImportFormatError where the file
    is too large or no JSON.
    """
    data = raw.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ImportFormatError(
            f"{path} has more than {_MOST_BYTES >> 20} MiB", hint="Import it in parts."
        )
    count, problems = 0, []
    for number, record in enumerate(_records(path, data.decode("utf-8-sig")), 1):
        try:
            if not isinstance(record, dict):
                raise ImportFormatError("not a JSON object")
            store.put_advisory(from_osv(record))
            count += 1
        except (ImportFormatError, StoreError) as error:
            problems.append(Problem(f"{path.name}:{number}", "malformed", error.what))
    return ImportReport(0, 0, 0, count, tuple(problems))


def _records(path: Path, text: str) -> Iterator[Any]:
    try:
        whole = json.loads(text)
    except RecursionError as error:
        raise ImportFormatError(f"{path} is nested too deeply") from error
    except ValueError:
        whole = None
    if whole is not None:
        yield from whole if isinstance(whole, list) else [whole]
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ImportFormatError(f"{path}:{number} is no JSON: {error}") from error
