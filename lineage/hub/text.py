"""Text that strangers wrote: decoding, cleaning, and YAML and JSON within bounds."""

import json
import math
import re
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
    ScalarEvent,
)

from lineage.domain.errors import LineageError

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

RAW_LIMIT = 1000
_YAML_LIMIT = 256 * 1024
_NODES = 50_000
_DEPTH = 50
_TAGS = {None, "!", "tag:yaml.org,2002:str"}
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class MalformedTextError(LineageError):
    """Report text that is not the YAML or JSON it should be, or that is out of bounds."""


class _Loader(_Base):
    """YAML's safe loader, without dates: what looks like one stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for first, forms in _Base.yaml_implicit_resolvers.items()
}


def decode(data: bytes) -> str:
    """Return the text of UTF-8 bytes: no byte order mark, only line feeds end lines.

    Bytes that are not UTF-8 become U+FFFD.
    """
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def clean(value: object) -> str:
    """Return `value` as one printable line of at most RAW_LIMIT characters.

    Control, bidirectional-override and surrogate characters become U+FFFD, line ends spaces, so
    that the text can be stored and shown anywhere.
    """
    text = str(value)[: 2 * RAW_LIMIT].replace("\n", " ").replace("\t", " ")
    return _UNPRINTABLE.sub("\ufffd", text).strip()[:RAW_LIMIT]


def load_yaml(text: str) -> list[Any]:
    """Return the documents of a YAML text as plain Python values; dates stay text.

    Raises MalformedTextError for broken YAML, application tags, recursive aliases, and whatever
    is longer than 256 KiB, deeper than 50 levels or, with aliases expanded, has more than 50,000
    nodes.
    """
    if len(text) > _YAML_LIMIT:
        raise MalformedTextError(f"YAML of {len(text)} characters is too long")
    try:
        _check(text)
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        raise MalformedTextError(f"broken YAML: {clean(error)}") from error


def _check(text: str) -> None:
    """Walk the events of a YAML text, which costs no more than its length, and bound its tree."""
    sizes: dict[str, int] = {}  # of finished anchors, aliases expanded
    opened: list[tuple[str | None, int]] = []  # anchor and count of nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, DocumentStartEvent):
            sizes = {}
        elif isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise MalformedTextError("broken YAML: an alias to nothing or to itself")
            nodes += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            nodes += 1
            _check_tag(event)
            if isinstance(event, CollectionStartEvent):
                opened.append((event.anchor, nodes - 1))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        if nodes > _NODES or len(opened) > _DEPTH:
            raise MalformedTextError("YAML is too deep or has too many nodes")


def _check_tag(event: NodeEvent) -> None:
    tag = event.tag if isinstance(event, ScalarEvent | CollectionStartEvent) else None
    if tag not in _TAGS:
        raise MalformedTextError(f"broken YAML: the tag {clean(tag)} is not accepted")


def load_json(data: bytes) -> Any:
    """Return the value of a JSON text. Raises MalformedTextError where it is none."""
    try:
        return json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        raise MalformedTextError(f"broken JSON: {clean(error)}") from error


def plain_number(value: object) -> float | None:
    """Return `value` as a finite float; None for a truth value and all that is no number.

    Text counts where it is one (YAML 1.1 reads `1e-5` as text).
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
