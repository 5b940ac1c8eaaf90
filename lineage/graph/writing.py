"""What writing means, in terms of a transaction's primitives: the same for every store.

The rules: a name without commit lands where `linking.land` says; a repo has a mention (a node
without commit) only while none of its revisions is known; no edge joins a node to itself.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Relation, merge_derivations
from lineage.domain.ids import revision_id, split_revision_id
from lineage.domain.revision import Revision, State
from lineage.graph import linking
from lineage.graph.codec import dump_revision, is_known, made, normal_id, tensor_key
from lineage.graph.names import Names
from lineage.graph.store import Record
from lineage.graph.tables import Claimant, ImportRow, Pair, Transaction, Version

_CHUNK = 2000  # children relinked at once, so that memory stays bounded


def exact_ids(tx: Transaction, ids: Collection[str]) -> dict[str, str]:
    """Return the existing node of each id, through aliases; those without are left out."""
    normal = {text: normal_id(text) for text in ids}
    present = tx.times(set(normal.values()))
    missing = {text: split_revision_id(n) for text, n in normal.items() if n not in present}
    aliases = tx.aliases({repo for repo, _ in missing.values()}) if missing else {}
    renamed = {
        text: revision_id(aliases[repo], commit)
        for text, (repo, commit) in missing.items()
        if repo in aliases
    }
    there = tx.times(set(renamed.values())) if renamed else {}
    found = {text: n for text, n in normal.items() if n in present}
    return found | {text: new for text, new in renamed.items() if new in there}


def resolve_pairs(tx: Transaction, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the nodes that pairs of ids mean, creating mentions for those nobody has seen.

    A child without commit is its newest known revision; a parent without commit lands as a claim
    of its child would.
    """
    ids = {name for pair in pairs for name in pair}
    spelt = {name: new for name in ids if (new := normal_id(name)) != name}
    normal = [(spelt.get(p, p), spelt.get(c, c)) for p, c in pairs] if spelt else list(pairs)
    ids = ids - spelt.keys() | set(spelt.values())
    times = tx.times(ids)
    missing = {name: split_revision_id(name) for name in ids - times.keys()}
    names = Names(tx, {repo for repo, _ in missing.values()}, exist=False)
    if names.nothing:
        tx.mention(missing)
        return normal
    children: dict[str, str] = {}
    for _, child in normal:
        if child in missing and child not in children:
            repo, commit = missing[child]
            exact = commit is not None
            children[child] = (
                names.exact(repo, commit) if exact else names.target(repo, None, None, "")
            )
    times |= tx.times({new for old, new in children.items() if new != old and new not in times})
    resolved: list[Pair] = []
    for parent, child in normal:
        target = children.get(child, child)
        if parent in missing:
            repo, commit = missing[parent]
            if commit is not None:
                parent = names.exact(repo, commit)  # noqa: PLW2901
            else:
                parent = names.target(repo, None, times.get(target), target)  # noqa: PLW2901
        resolved.append((parent, target))
    tx.mention({name for pair in resolved for name in pair if name not in times})
    return resolved


def put_derivations(tx: Transaction, derivations: Sequence[Derivation]) -> None:
    """Join edges into the graph; see `Store.put_derivations`."""
    _join(tx, _placed(tx, derivations))


def _placed(tx: Transaction, derivations: Sequence[Derivation]) -> list[Derivation]:
    """Return edges between the nodes that their ids mean, without self-loops."""
    pairs = resolve_pairs(tx, [(d.parent, d.child) for d in derivations])
    return [
        edge.model_copy(update={"parent": parent, "child": child})
        for edge, (parent, child) in zip(derivations, pairs, strict=True)
        if parent != child
    ]


def _join(tx: Transaction, edges: Sequence[Derivation]) -> None:
    existing = tx.edges({(edge.parent, edge.child) for edge in edges})
    changed = linking.join(edges, existing)
    if changed:
        tx.save_edges(changed)


def replace_measured(
    tx: Transaction, derivations: Sequence[Derivation], children: Collection[str]
) -> None:
    """Put new measurements in place of the old; see `Store.replace_measured`."""
    placed = _placed(tx, derivations)
    targets = set(exact_ids(tx, children).values())
    old = {(edge.parent, edge.child): edge for edge in tx.edges_into(targets)}
    old |= tx.edges({(edge.parent, edge.child) for edge in placed} - old.keys())
    left = {
        pair: linking.without_measured(edge) if edge.child in targets else edge
        for pair, edge in old.items()
    }
    placed = [
        linking.seen_since(e, old.get((e.parent, e.child))) if e.child in targets else e
        for e in placed
    ]
    final = {pair: edge for pair, edge in left.items() if edge is not None}
    final |= {(edge.parent, edge.child): edge for edge in linking.join(placed, final)}
    # Only what differs is written, so that no edge is gone for a moment for readers beside us.
    tx.drop_edges(old.keys() - final.keys())
    tx.save_edges([edge for pair, edge in final.items() if edge != old.get(pair)])


def import_edges(
    tx: Transaction, rows: Sequence[ImportRow], where: str, at: datetime | None = None
) -> int:
    """Write declared edges where none is; see `Store.import_edges`."""
    pairs = resolve_pairs(tx, [(parent, child) for parent, child, _ in rows])
    first: dict[Pair, Relation] = {}
    for pair, row in zip(pairs, rows, strict=True):
        if pair[0] != pair[1]:
            first.setdefault(pair, row[2])
    return tx.add_imported([(p, c, relation) for (p, c), relation in first.items()], where, at)


def put_revisions(tx: Transaction, revisions: Sequence[Revision]) -> int:
    """Write metadata without claims; see `Store.put_revisions`."""
    for revision in revisions:
        name = _own_name(tx, revision)
        if name is not None:
            old = tx.load([name.id]).get(name.id)
            _place(tx, _update(old, name) if old else name)
    return len(revisions)


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


def put_record(tx: Transaction, record: Record) -> None:
    """Write all that was read of one revision; see `Store.put_record`."""
    revision = record.revision
    if record.alias and record.alias != revision.repo:
        _rename_repo(tx, record.alias, revision.repo)
    if record.state is not None:
        tx.save_state(record.state)
    placed = _own_name(tx, revision)
    if placed is None:
        return
    said = [claim for claims in tx.claims([placed.id, placed.repo]).values() for claim in claims]
    before = linking.claim_keys(said)
    old = tx.load([placed.id]).get(placed.id)
    placed = placed.model_copy(update={"first_seen": _first_seen(old, placed)})
    _place(tx, placed)
    tx.save_claims(placed.id, linking.same_claims(record.claims, said))
    if record.tensors is not None:
        tx.save_tensors({placed.id: [tensor_key(digest) for digest in record.tensors]})
    _relink(tx, [placed.id], {placed.id: before})


def put_tensors(tx: Transaction, held: Sequence[tuple[str, Collection[str]]]) -> None:
    """Add digests of tensors; see `Store.put_tensors`."""
    names = exact_ids(tx, {name for name, _ in held})
    found: dict[str, set[str]] = {}
    for name, digests in held:
        if name in names:
            found.setdefault(names[name], set()).update(map(tensor_key, digests))
    tx.save_tensors(found)


def _own_name(tx: Transaction, revision: Revision) -> Revision | None:
    """Return a revision under the id it has in the graph, None if it would be a mere mention.

    An old id is kept where the present one has no such commit: the name may be another's now.
    """
    repo, commit = split_revision_id(normal_id(revision.id))
    revision = revision.model_copy(update={"repo": repo, "commit": commit})
    present = tx.aliases([repo]).get(repo)
    if commit is None:
        names = Names(tx, [repo])
        return None if names.known(repo) else revision.model_copy(update={"repo": present or repo})
    if present is not None and tx.times([revision_id(present, commit)]):
        return revision.model_copy(update={"repo": present})
    return revision


def _place(tx: Transaction, revision: Revision) -> None:
    """Write a revision; if it is newly known, let claims and the mention's edges land on it."""
    repo, name = revision.repo, revision.id
    versions = tx.versions([repo]).get(repo, [])
    old = next((v for v in versions if v.id == name), None)
    new = Version(name, is_known(revision), made(revision))
    mention = next((v for v in versions if v.id == repo and name != repo), None)
    if new.known and mention is not None and old is None:
        tx.rename(repo, name)
        mention = None
    tx.save([revision])
    if not new.known or old == new:
        return
    if mention is not None:
        _settle(tx, repo)
    if repo in tx.aliases([repo]):
        _reland(tx, repo, None)
    elif any(v.known for v in versions):
        _reland(tx, repo, versions)
    if old is not None and old.made != new.made:
        _relink(tx, [name], None)


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
        tx.save_claims(child, claims)
    tx.drop([repo])


def _move(
    tx: Transaction, edges: Sequence[Derivation], moved: Callable[[Derivation], Pair]
) -> None:
    tx.drop_edges([(edge.parent, edge.child) for edge in edges])
    pairs = [(edge, *moved(edge)) for edge in edges]
    _join(
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
    for name in [old, *tx.names_of(old)]:
        if name != new:
            tx.save_alias(name, new)
    for version in tx.versions([old]).get(old, []):
        _rename_node(tx, version.id, revision_id(new, split_revision_id(version.id)[1]))
    versions = tx.versions([new]).get(new, [])
    if any(v.id == new for v in versions) and any(v.known for v in versions):
        _settle(tx, new)
    _reland(tx, new, None)


def _rename_node(tx: Transaction, old: str, new: str) -> None:
    there = tx.load([new]).get(new)
    if there is None:
        tx.rename(old, new)
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
        tx.save_claims(new, claims[old])
    tx.move_events(old, new)
    tx.drop([old])


def _reland(tx: Transaction, repo: str, before: Sequence[Version] | None) -> None:
    """Relink the children whose claims on `repo` land elsewhere than they did.

    `before` are the versions of `repo` as they were; None relinks every claimant.
    """
    aliases = tx.names_of(repo)
    claimants = [c for c in tx.claimants([repo, *aliases]) if not linking.pinned(c.commit)]
    if before is not None and not aliases:
        now = tx.versions([repo]).get(repo, [])
        claimants = [c for c in claimants if _lands(now, c) != _lands(before, c)]
    children = sorted({c.child for c in claimants})
    for start in range(0, len(children), _CHUNK):
        _relink(tx, children[start : start + _CHUNK], None)


def _lands(versions: Collection[Version], claimant: Claimant) -> str | None:
    return linking.land(versions, claimant.made, claimant.commit)


def _relink(
    tx: Transaction,
    children: Collection[str],
    before: dict[str, set[linking.EvidenceKey]] | None,
) -> None:
    """Make the declared edges into `children` what their claims say.

    `before` holds the keys of evidence that earlier claims made, None if claims are the same.
    """
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
