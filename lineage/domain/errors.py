"""Every error the project raises on purpose.

Each says what happened, to which file or repo, and what to do about it. Exit codes belong to the
command line, which reads `exit_code` from here.
"""


class LineageError(Exception):
    """Be the root of all errors raised on purpose.

    `what` says what happened and to what; `hint` says what the user can do, or is empty.
    """

    exit_code = 4

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class UsageError(LineageError):
    """Report a command, option or reference that cannot mean anything."""

    exit_code = 2


class UnknownRefError(LineageError):
    """Report a reference that names nothing in the store."""


class AmbiguousRefError(LineageError):
    """Report a reference that names several things where one is needed."""


class MissingDependencyError(LineageError):
    """Report an optional package that an operation needs and that is not installed."""


class StoreError(LineageError):
    """Report a store that cannot be reached, read or written."""


class StoreVersionError(StoreError):
    """Report a store written by a newer version of the project."""


class StoreUnavailableError(StoreError):
    """Report a store that stopped answering; what was committed before is safe."""


class SourceError(LineageError):
    """Report a repository or file that a source could not give.

    `reason` is the short machine-readable cause kept with the repo: `gated`, `private`, `gone`,
    `disabled`, `rate_limited`, `network`, `truncated`, `changed`, `invalid`.
    """

    def __init__(self, what: str, *, reason: str, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.reason = reason


class WeightFormatError(LineageError):
    """Report a weight file that is damaged, hostile or of an unknown format."""


class UnsupportedWeightsError(WeightFormatError):
    """Report a sound weight file that uses something this version cannot read."""


class FingerprintError(LineageError):
    """Report a fingerprint file that is damaged, or of a layout this version cannot read."""


class ImportFormatError(LineageError):
    """Report a file given to `lineage import` that is none of the known formats."""


class DeliveryError(LineageError):
    """Report an alert that a receiver did not take. `again` tells that waiting may help."""

    def __init__(self, what: str, *, hint: str = "", again: bool = False) -> None:
        super().__init__(what, hint=hint)
        self.again = again


class RecipeError(LineageError):
    """Report a merge recipe that cannot be read."""
