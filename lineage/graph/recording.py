"""What writing records of revisions means: where they stand, and which edges their claims make.

Many are written as one, a step at a time for all: what a server takes a round trip for. The result
does not depend on the order, but for records of one repo, and for those that rename one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, merge_derivations
from lineage.domain.ids import revision_id, split_revision_id
from lineage.domain.revision import Revision, State
from lineage.graph import linking
from lineage.graph.codec import dump_revision, is_known, made, normal_id, tensor_key
from lineage.graph.names import Names
from lineage.graph.store import Record
from lineage.graph.tables import Claimant, Pair, Transaction, Version
from lineage.graph.writing import exact_ids, join

_CHUNK = 2000  # children relinked at once, so that memory stays bounded


def put_records(tx: Transaction, records: Sequence[Record]) -> int:
    """Write all that was read of revisions; see `Store.put_records`."""
    for part in _rounds(tx, records):
        _put_round(tx, part)
    return len(records)


def put_revisions(tx: Transaction, revisions: Sequence[Revision]) -> int:
    """Write metadata without claims; see `Store.put_revisions`."""
    for part in _rounds(tx, [Record(revision) for revision in revisions]):
        placed = [r for r in _own_names(tx, [record.revision for record in part]) if r is not None]
        old = tx.load([r.id for r in placed])
        _place(tx, [_update(old[r.id], r) if r.id in old else r for r in placed])
    return len(revisions)


def _rounds(tx: Transaction, records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield records so that those of one repo, and those around a renaming, follow each other."""
    start = 0
    for at, record in enumerate(records):
        if record.alias:
            yield from _in_turn(tx, records[start:at])
            yield [record]
            start = at + 1
    yield from _in_turn(tx, records[start:])


def _in_turn(tx: Transaction, records: Sequence[Record]) -> list[list[Record]]:
    """Return records in parts that have each repo once, whatever its name, in order."""
    repos = [record.revision.repo for record in records]
    aliases = tx.aliases(set(repos)) if len(repos) > 1 else {}
    turns: Counter[str] = Counter()
    parts: list[list[Record]] = []
    for record, repo in zip(records, repos, strict=True):
        present = aliases.get(repo, repo)
        if turns[present] == len(parts):
            parts.append([])
        parts[turns[present]].append(record)
        turns[present] += 1
    return parts


def _put_round(tx: Transaction, records: Sequence[Record]) -> None:
    """Write records of different repos."""
    for record in records:
        repo = record.revision.repo
        if record.alias and record.alias != repo:
            _rename_repo(tx, record.alias, repo)
    tx.save_states([record.state for record in records if record.state is not None])
    names = _own_names(tx, [record.revision for record in records])
    found = [(r, name) for r, name in zip(records, names, strict=True) if name is not None]
    said = tx.claims({name for _, r in found for name in (r.id, r.repo)})
    earlier = {
        r.id: [c for name in dict.fromkeys((r.id, r.repo)) for c in said.get(name, [])]
        for _, r in found
    }
    old = tx.load([r.id for _, r in found])
    _place(
        tx,
        [r.model_copy(update={"first_seen": _first_seen(old.get(r.id), r)}) for _, r in found],
    )
    tx.save_claims({r.id: linking.same_claims(x.claims, earlier[r.id]) for x, r in found})
    tx.save_tensors(
        {r.id: [*map(tensor_key, x.tensors)] for x, r in found if x.tensors is not None}
    )
    _relink(tx, earlier.keys(), {name: linking.claim_keys(c) for name, c in earlier.items()})


def _update(old: Revision, new: Revision) -> Revision:
    """Return `old` with what `new` says; what only `old` knows and what was read stay."""
    fields = {name: getattr(new, name) for name in new.model_fields_set if getattr(new, name)}
    if new.state is State.MENTIONED:
        fields.pop("state", None)
    return old.model_copy(update=fields | {"first_seen": _first_seen(old, new)})


def _first_seen(old: Revision | None, new: Revision) -> datetime | None:
    """Return when a revision was first read; that an older version read it has no time."""
    if old is None or dump_revision(old) is None:
        return new.first_seen
    times = old.first_seen, new.first_seen
    return None if times[0] is None else min(time for time in times if time is not None)


def put_tensors(tx: Transaction, held: Sequence[tuple[str, Collection[str]]]) -> None:
    """Add digests of tensors; see `Store.put_tensors`."""
    names = exact_ids(tx, {name for name, _ in held})
    found: dict[str, set[str]] = {}
    for name, digests in held:
        if name in names:
            found.setdefault(names[name], set()).update(map(tensor_key, digests))
    tx.save_tensors(found)


def _own_names(tx: Transaction, revisions: Sequence[Revision]) -> list[Revision | None]:
    """Return revisions under the ids they have in the graph, None for what would be a mere mention.

    An old id is kept where the present one has no such commit: the name may be another's now.
    """
    normal = [split_revision_id(normal_id(revision.id)) for revision in revisions]
    named = [
        revision.model_copy(update={"repo": repo, "commit": commit})
        for revision, (repo, commit) in zip(revisions, normal, strict=True)
    ]
    present = tx.aliases({repo for repo, _ in normal})
    names = Names(tx, {repo for repo, commit in normal if commit is None})
    renamed = {r.id: revision_id(present[r.repo], r.commit) for r in named if r.repo in present}
    there = tx.times(set(renamed.values())) if renamed else {}
    out: list[Revision | None] = []
    for revision in named:
        repo = present.get(revision.repo)
        if revision.commit is None and names.known(revision.repo):
            out.append(None)
        elif repo and (revision.commit is None or renamed[revision.id] in there):
            out.append(revision.model_copy(update={"repo": repo}))
        else:
            out.append(revision)
    return out


def _place(tx: Transaction, revisions: Sequence[Revision]) -> None:
    """Write revisions of different repos; let claims and edges land on those newly known."""
    versions = tx.versions({revision.repo for revision in revisions})
    old = {v.id: v for known in versions.values() for v in known}
    new = {r.id: Version(r.id, is_known(r), made(r)) for r in revisions}
    fresh = {r.repo: r.id for r in revisions if new[r.id].known and old.get(r.id) != new[r.id]}
    mentioned = {repo for repo, name in fresh.items() if repo in old and name != repo}
    renamed = {repo: fresh[repo] for repo in mentioned if fresh[repo] not in old}
    tx.rename(renamed)
    tx.save(revisions)
    for repo in sorted(mentioned - renamed.keys()):
        _settle(tx, repo)
    aliased = tx.aliases(fresh)
    for repo in sorted(aliased):
        _reland(tx, repo)
    known = {repo for repo in fresh if any(v.known for v in versions.get(repo, ()))}
    _reland_from(tx, {repo: versions[repo] for repo in known - aliased.keys()})
    moved = [name for name in fresh.values() if name in old and old[name].made != new[name].made]
    _relink(tx, moved, None)


def _settle(tx: Transaction, repo: str) -> None:
    """Move the edges of a mention to the known revisions of its repo and drop it."""
    names = Names(tx, [repo])
    edges = [*tx.edges_into([repo]), *tx.edges_out([repo])]
    child = names.target(repo, None, None, "")
    times = tx.times({edge.child for edge in edges})

    def moved(edge: Derivation) -> Pair:
        if edge.child == repo:
            return edge.parent, child
        return names.target(repo, None, times.get(edge.child), edge.child), edge.child

    _move(tx, edges, moved)
    tx.move_events(repo, child)
    claims = tx.claims([repo]).get(repo)
    if claims and not tx.claims([child]):
        tx.save_claims({child: claims})
    tx.drop([repo])


def _move(
    tx: Transaction, edges: Sequence[Derivation], moved: Callable[[Derivation], Pair]
) -> None:
    tx.drop_edges([(edge.parent, edge.child) for edge in edges])
    pairs = [(edge, *moved(edge)) for edge in edges]
    join(
        tx,
        [
            edge.model_copy(update={"parent": parent, "child": child})
            for edge, parent, child in pairs
            if parent != child
        ],
    )


def _rename_repo(tx: Transaction, old: str, new: str) -> None:
    """Note that `old` is called `new` now; its nodes and edges go with it."""
    normal_id(old)
    if tx.aliases([old]).get(old) == new:
        return
    tx.drop_alias(new)
    for name in [old, *tx.names_of([old]).get(old, ())]:
        if name != new:
            tx.save_alias(name, new)
    for version in tx.versions([old]).get(old, []):
        _rename_node(tx, version.id, revision_id(new, split_revision_id(version.id)[1]))
    versions = tx.versions([new]).get(new, [])
    if any(v.id == new for v in versions) and any(v.known for v in versions):
        _settle(tx, new)
    _reland(tx, new)


def _rename_node(tx: Transaction, old: str, new: str) -> None:
    there = tx.load([new]).get(new)
    if there is None:
        tx.rename({old: new})
        tx.move_events(old, new)
        return
    moving = tx.load([old])[old]
    edges = [*tx.edges_into([old]), *tx.edges_out([old])]
    _move(
        tx,
        edges,
        lambda e: (new if e.parent == old else e.parent, new if e.child == old else e.child),
    )
    if is_known(moving) and not is_known(there):
        tx.save([moving.model_copy(update={"repo": there.repo})])
    claims = tx.claims([old, new])
    if old in claims and new not in claims:
        tx.save_claims({new: claims[old]})
    tx.move_events(old, new)
    tx.drop([old])


def _reland(tx: Transaction, repo: str) -> None:
    """Relink all children with claims on `repo` that its versions may move."""
    claimants = tx.claimants([repo, *tx.names_of([repo]).get(repo, ())])
    _relink_all(tx, {c.child for c in claimants if not linking.pinned(c.commit)})


def _reland_from(tx: Transaction, before: Mapping[str, Sequence[Version]]) -> None:
    """Relink the children whose claims on repos land elsewhere than they did.

    `before` are the versions of each repo as they were.
    """
    if not before:
        return
    now = tx.versions(before.keys())
    aliased = tx.names_of(before.keys())
    for repo in aliased:
        _reland(tx, repo)
    claimants = tx.claimants(before.keys() - aliased.keys())
    moved = {
        c.child
        for c in claimants
        if not linking.pinned(c.commit)
        and _lands(now.get(c.name, ()), c) != _lands(before[c.name], c)
    }
    _relink_all(tx, moved)


def _relink_all(tx: Transaction, children: Collection[str]) -> None:
    ordered = sorted(children)
    for start in range(0, len(ordered), _CHUNK):
        _relink(tx, ordered[start : start + _CHUNK], None)


def _lands(versions: Collection[Version], claimant: Claimant) -> str | None:
    return linking.land(versions, claimant.made, claimant.commit)


def _relink(
    tx: Transaction,
    children: Collection[str],
    before: Mapping[str, set[linking.EvidenceKey]] | None,
) -> None:
    """Make the declared edges into `children` what their claims say.

    `before` holds the keys of evidence that earlier claims made, None if claims are the same.
    """
    if not children:
        return
    claims = tx.claims(children)
    times = tx.times(children)
    repos = {c.repo for said in claims.values() for c in said if c.resolved and c.repo}
    names = Names(tx, repos)
    existing: dict[str, dict[str, Derivation]] = {}
    for edge in tx.edges_into(children):
        existing.setdefault(edge.child, {})[edge.parent] = edge
    drop: list[Pair] = []
    save: list[Derivation] = []
    for child in sorted(times):
        said = claims.get(child, [])
        keys = linking.claim_keys(said) | (before or {}).get(child, set())
        wanted = linking.claimed_edges(child, said, _landing(names, child, times[child]))
        has = existing.get(child, {})
        for parent in sorted(has.keys() | wanted.keys()):
            new = _declared(has.get(parent), wanted.get(parent), keys)
            if new is None:
                drop.append((parent, child))
            elif new != has.get(parent):
                save.append(new)
    tx.drop_edges(drop)
    tx.mention({edge.parent for edge in save})
    tx.save_edges(save)


def _declared(
    old: Derivation | None, wanted: Derivation | None, keys: Collection[linking.EvidenceKey]
) -> Derivation | None:
    left = linking.without_keys(old, keys) if old else None
    if left is None or wanted is None:
        return left or wanted
    return merge_derivations(left, wanted)


def _landing(names: Names, child: str, child_made: int | None) -> Callable[[Claim], str | None]:
    def landing(claim: Claim) -> str | None:
        repo = claim.repo or ""
        return names.target(repo, claim.commit, child_made, child) if repo else None

    return landing
