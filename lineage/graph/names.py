"""What names mean in a store: versions of repos and aliases."""

from collections.abc import Collection

from lineage.domain.ids import revision_id, split_revision_id
from lineage.graph import linking
from lineage.graph.tables import Transaction, Version


class Names:
    """Tells what names mean: versions and aliases, each read once."""

    def __init__(self, tx: Transaction, repos: Collection[str], *, exist: bool = True) -> None:
        self.present = tx.aliases(repos)
        # In a bulk import nothing that is missing has versions unless something was ever read.
        needed = exist or bool(self.present) or tx.any_known()
        self._versions = tx.versions({*repos, *self.present.values()}) if needed else {}

    @property
    def nothing(self) -> bool:
        """Tell whether every name means itself: none has an alias or a version."""
        return not self.present and not self._versions

    def canonical(self, repo: str) -> str:
        """Return the present id of a repo."""
        return self.present.get(repo, repo)

    def versions(self, repo: str) -> list[Version]:
        """Return the nodes that `repo` may mean: its own and those of its present id."""
        own = self._versions.get(repo, [])
        present = self.present.get(repo)
        return own if present is None else own + self._versions.get(present, [])

    def known(self, repo: str) -> bool:
        """Tell whether any revision of a repo is known."""
        return any(v.known for v in self.versions(repo))

    def exact(self, repo: str, commit: str | None) -> str:
        """Return the id of one revision: under `repo` if it is there, else the present id."""
        own = revision_id(repo, commit)
        if any(v.id == own for v in self._versions.get(repo, [])):
            return own
        return revision_id(self.canonical(repo), commit)

    def target(self, repo: str, commit: str | None, child_made: int | None, child: str) -> str:
        """Return the id on which a claim of `child` lands, whether it exists or not.

        A claim on the child's own repo can only mean an earlier revision; where there is none the
        child itself is returned.
        """
        if linking.pinned(commit):
            return self.exact(repo, commit)
        present = self.canonical(repo)
        if split_revision_id(child)[0] in {repo, present}:
            return child
        return linking.land(self.versions(repo), child_made, commit) or present
