"""Text from outside, made safe to show."""

import re
from datetime import UTC, datetime

_COMMIT = re.compile(r"@([0-9a-f]{12})(?:[0-9a-f]{52}|[0-9a-f]{28})(?![0-9a-f])")


def clean(text: str) -> str:
    r"""Return `text` with everything that a terminal would act on written out.

    Control characters, ANSI escapes, bidirectional overrides, zero-width and other characters
    without a shape of their own become `\x1b`, `\u202e` and so on; the result is one line. Every
    text that a repository, card, header or file could have chosen goes through here on its way to
    a terminal, CSV or Markdown. JSON needs it not: it is written in ASCII.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written_out(ord(c)) for c in text)


def _written_out(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def short(text: str) -> str:
    """Return `text` with each commit of a revision id cut to 12 digits, which a REF may be too."""
    return _COMMIT.sub(r"@\1", text)


def number(value: float) -> str:
    """Return a number the way people read it: thousands set apart, four digits of a fraction."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def day(time: datetime | None) -> str | None:
    """Return the date of `time` in UTC."""
    return time.astimezone(UTC).date().isoformat() if time else None


def moment(time: datetime | None) -> str | None:
    """Return `time` in UTC to the second."""
    return time.astimezone(UTC).isoformat(" ", "seconds").replace("+00:00", "Z") if time else None
