"""What a reference typed by a user names in a store."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.errors import AmbiguousRefError, UnknownRefError
from lineage.domain.ids import Ref, RefKind, is_commit, split_revision_id
from lineage.graph.store import Store

_SCANNED = 2000  # ids looked at for a hint, for each kind of slip
_SHOWN = 5  # close matches and candidates named in a hint


def resolve(store: Store, ref: Ref) -> list[str]:
    """Return the ids of the revisions that `ref` names, at least one.

    A repo means all its revisions, oldest first, under its present id, with its mention where it
    was never read. A commit may be abbreviated. A digest means every revision that holds it, an
    advisory all that its latest version marks and the store has. Raises UnknownRefError with close
    matches, AmbiguousRefError where an abbreviation fits several commits.
    """
    match ref.kind:
        case RefKind.REPO:
            return _repo(store, ref.repo)
        case RefKind.REVISION:
            return [_revision(store, ref.repo, ref.commit or "")]
        case RefKind.DIGEST:
            return _digest(store, ref.text)
        case RefKind.ADVISORY:
            return _advisory(store, ref.text)
        case RefKind.PATH:
            raise UnknownRefError(
                f"'{ref.text}' is a folder, and a store knows folders by their digest only",
                hint=f"Run: lineage add {ref.text}",
            )


def close_matches(store: Store, repo: str) -> list[str]:
    """Return repos of the store with names like `repo`, best first."""
    owner, _, name = repo.rpartition("/")
    near: set[str] = set()
    # The whole name in any case, then its front, then its owner: the commonest slips first.
    for text in (f"/{name}", name[: max(4, len(name) // 2)], f"{owner}/" if owner else ""):
        if text:
            near |= {split_revision_id(found)[0] for found in store.search(text, _SCANNED)}
    by_case = {candidate.lower(): candidate for candidate in sorted(near)}
    return [by_case[low] for low in get_close_matches(repo.lower(), by_case, _SHOWN, 0.6)]


def _repo(store: Store, repo: str) -> list[str]:
    found = [revision.id for revision in store.revisions_of(repo)]
    if not found:
        raise UnknownRefError(f"'{repo}' is not in {store.url}", hint=_suggest(store, repo))
    return found


def _revision(store: Store, repo: str, commit: str) -> str:
    name = f"{repo}@{commit}"
    if is_commit(commit):
        exact = store.revisions([name])
        if exact:
            return exact[0].id
    known = [(r.id, r.commit) for r in store.revisions_of(repo)]
    if not known:
        raise UnknownRefError(f"'{repo}' is not in {store.url}", hint=_suggest(store, repo))
    fitting = [found for found, c in known if c is not None and c.startswith(commit)]
    commits = {split_revision_id(found)[1] for found in fitting}
    if len(commits) > 1:
        raise AmbiguousRefError(f"'{name}' fits {len(fitting)} revisions", hint=_list(fitting))
    if not fitting:
        raise UnknownRefError(
            f"{store.url} has no commit {commit} of '{repo}'",
            hint="It has: " + _list([found for found, _ in known]),
        )
    return fitting[-1]


def _digest(store: Store, digest: str) -> list[str]:
    found = store.find_digest(digest)
    if not found:
        hint = "Digests of models and tensors need weights that were read whole: --weights full."
        if digest.startswith("blake3:") and store.unindexed(1):
            hint += (
                "\nSome were read before digests of tensors were kept: `lineage infer` adds them."
            )
        raise UnknownRefError(f"no revision in {store.url} holds {digest}", hint=hint)
    return found


def _advisory(store: Store, advisory_id: str) -> list[str]:
    versions = store.advisories(advisory_id)
    if not versions:
        known = sorted({advisory.id for advisory in store.advisories()})
        near = get_close_matches(advisory_id, known, _SHOWN) or known[:_SHOWN]
        raise UnknownRefError(
            f"there is no advisory '{advisory_id}' in {store.url}",
            hint=f"It has: {_list(near)}" if near else "It has none.",
        )
    found = marked(store, versions[-1])
    if not found:
        raise UnknownRefError(f"{store.url} has nothing that {advisory_id} marks")
    return found


def marked(store: Store, advisory: Advisory) -> list[str]:
    """Return the ids, sorted, of the revisions that an advisory's targets name in the store."""
    return sorted({name for names in named_by(store, advisory.targets).values() for name in names})


def named_by(store: Store, targets: Collection[Target]) -> dict[Target, list[str]]:
    """Return the ids, sorted, of the revisions that each target names, read together."""
    by_kind = {kind: [t.value for t in targets if t.kind is kind] for kind in TargetKind}
    exact = store.present_ids(by_kind[TargetKind.REVISION])
    repos = store.ids_of(by_kind[TargetKind.REPO])
    found: dict[Target, list[str]] = {}
    for target in targets:
        match target.kind:
            case TargetKind.REVISION:
                found[target] = [exact[target.value]] if target.value in exact else []
            case TargetKind.REPO:
                found[target] = repos.get(target.value, [])
            case TargetKind.RANGE:
                found[target] = sorted(_split(store, target)[0])
            case TargetKind.DIGEST:
                found[target] = store.find_digest(target.value)
    return found


def fixed(store: Store, advisory: Advisory) -> list[str]:
    """Return the ids of the revisions from which on a marked range of commits is fixed."""
    if advisory.withdrawn is not None:
        return []
    ranges = [t for t in advisory.targets if t.kind is TargetKind.RANGE and t.fixed]
    return [name for target in ranges for name in _split(store, target)[1]]


def _split(store: Store, target: Target) -> tuple[list[str], list[str]]:
    """Return the revisions of a repo from `introduced` to before `fixed`, and those from there on.

    In order of time. A commit that the store does not know bounds nothing: rather too many are
    marked than too few.
    """
    versions = store.revisions_of(target.value)
    place = {version.commit: n for n, version in enumerate(versions) if version.commit}
    first = place.get(target.introduced or "", 0)
    last = place.get(target.fixed or "", len(versions))
    names = [version.id for version in versions]
    return names[first:last], names[last:]


def _suggest(store: Store, repo: str) -> str:
    near = close_matches(store, repo)
    return f"Did you mean {_list(near)}?" if near else "Crawl, add or import it first."


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
