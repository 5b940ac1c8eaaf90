"""Real text to train on, from what is installed: no network, no made-up words."""

import pydoc_data.topics
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

CORPUS_CHARS = 400_000
"""Enough for a few hundred small steps; more would only cost reading."""

_CODE = {
    "networking": ("asyncio", "http", "urllib", "xmlrpc", "wsgiref"),
    "mail": ("email", "mailbox.py", "smtplib.py", "imaplib.py", "poplib.py"),
    "data": ("json", "csv.py", "sqlite3", "zipfile", "tarfile.py", "pickle.py"),
    "desktop": ("tkinter", "turtle.py", "idlelib"),
    "testing": ("unittest", "doctest.py", "pdb.py", "trace.py"),
    "packaging": ("importlib", "ensurepip", "distutils", "venv", "zipapp.py"),
    "numbers": ("decimal.py", "_pydecimal.py", "fractions.py", "statistics.py", "random.py"),
    "system": ("subprocess.py", "multiprocessing", "concurrent", "os.py", "shutil.py"),
}
_TOPICS = "reference"
_LICENSES = "legal"
_READMES = "readmes"


def domains() -> tuple[str, ...]:
    """Return the names of all corpora, the general ones first."""
    return (_TOPICS, _LICENSES, _READMES, *_CODE)


@cache
def corpus(domain: str) -> str:
    """Return the text of one domain, at most CORPUS_CHARS characters, the same every time."""
    if domain == _TOPICS:
        pieces: Iterable[str] = (text for _, text in sorted(pydoc_data.topics.topics.items()))
    elif domain == _LICENSES:
        pieces = _licenses()
    elif domain == _READMES:
        pieces = _readmes()
    else:
        pieces = _sources(_CODE[domain])
    text, size = [], 0
    for piece in pieces:
        text.append(piece)
        size += len(piece)
        if size >= CORPUS_CHARS:
            break
    return "\n\n".join(text)[:CORPUS_CHARS]


def sentences(domain: str) -> list[str]:
    """Return paragraphs of one domain, 60 characters or longer, for sentence encoders."""
    paragraphs = (" ".join(p.split()) for p in corpus(domain).split("\n\n"))
    return [p[:600] for p in paragraphs if len(p) >= 60]


def _sources(names: tuple[str, ...]) -> Iterable[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for name in names:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.exists() and "test" not in file.parts:
                yield file.read_text(encoding="utf-8", errors="ignore")


def _licenses() -> Iterable[str]:
    seen: set[str] = set()
    for dist in _distributions():
        for file in dist.files or ():
            stem = file.name.upper()
            if stem.startswith(("LICEN", "COPYING", "NOTICE")) and ".dist-info" in str(file):
                text = Path(str(file.locate())).read_text(encoding="utf-8", errors="ignore")
                if text not in seen:
                    seen.add(text)
                    yield text


def _readmes() -> Iterable[str]:
    for dist in _distributions():
        text = (dist.read_text("METADATA") or "").partition("\n\n")[2]
        if len(text) > 500 and dist.name != "lineage":
            yield text


def _distributions() -> list[metadata.Distribution]:
    return sorted(metadata.distributions(), key=lambda d: (d.name or "").lower())
