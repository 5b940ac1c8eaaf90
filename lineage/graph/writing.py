"""What writing means, in terms of a transaction's primitives: the same for every store.

The rules: a name without commit lands where `linking.land` says; a repo has a mention (a node
without commit) only while none of its revisions is known; no edge joins a node to itself.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from lineage.domain.derivation import Derivation, Relation
from lineage.domain.ids import revision_id, split_revision_id
from lineage.graph import linking
from lineage.graph.codec import normal_id
from lineage.graph.names import Names
from lineage.graph.tables import ImportRow, Pair, Transaction


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
    join(tx, _placed(tx, derivations))


def _placed(tx: Transaction, derivations: Sequence[Derivation]) -> list[Derivation]:
    """Return edges between the nodes that their ids mean, without self-loops."""
    pairs = resolve_pairs(tx, [(d.parent, d.child) for d in derivations])
    return [
        edge.model_copy(update={"parent": parent, "child": child})
        for edge, (parent, child) in zip(derivations, pairs, strict=True)
        if parent != child
    ]


def join(tx: Transaction, edges: Sequence[Derivation]) -> None:
    """Write edges between existing nodes, joined with those that are there."""
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
