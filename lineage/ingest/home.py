"""The folder where a user's store and fingerprints lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.ingest.vault import Vault


class Home:
    """The default store and the fingerprints, in one folder.

    `LINEAGE_FINGERPRINTS` may name another place for fingerprints: any fsspec URL.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(platformdirs.user_data_dir("lineage", appauthor=False))

    @property
    def store_url(self) -> str:
        """The URL of the default store. Makes the folder; raises UsageError where it cannot."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot make the folder {self.path}: {error.strerror}",
                hint="Give another one with --home or LINEAGE_HOME.",
            ) from error
        return f"sqlite:///{(self.path / 'lineage.db').absolute()}"

    def vault(self) -> "Vault":
        """Open the place where fingerprints lie."""
        # Commands that only read the graph come through here too: fsspec is a third of their start.
        from lineage.ingest.vault import Vault

        return Vault(os.environ.get("LINEAGE_FINGERPRINTS") or str(self.path / "fingerprints"))
