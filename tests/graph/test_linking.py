"""Where claims land, in both stores: mentions, renames, several revisions, replaced records."""

import random
from itertools import permutations
from pathlib import Path

import pytest

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation, Status
from lineage.domain.ids import parse_ref
from lineage.domain.revision import Artifact, Revision, State
from lineage.graph.refs import resolve
from lineage.graph.sqlite import SqliteStore
from lineage.graph.store import DeclaredEdge, Record, RepoState, Store
from lineage.graph.traverse import descendants
from tests.graph.building import claim, day, edges, everything, record, rev, sha


def edge_list(store: Store) -> list[tuple[str, str]]:
    """All edges with commits as the letters that they were made of."""
    letters = {sha(letter): letter for letter in "abcdefgxyz"}

    def short(name: str) -> str:
        repo, _, commit = name.partition("@")
        return f"{repo}@{letters[commit]}" if commit else repo

    return [(short(e.parent), short(e.child)) for e in store.all_derivations()]


def ids(store: Store) -> list[str]:
    return [revision.id for revision in store.all_revisions()]


def test_claim_on_an_unread_repo_makes_a_mention(store: Store) -> None:
    store.put_record(record("o/child", "c", 5, claim("o/base", relation=Relation.FINETUNE)))
    assert edge_list(store) == [("o/base", "o/child@c")]
    mention = store.revisions(["o/base"])[0]
    assert (mention.commit, mention.state) == (None, State.MENTIONED)
    edge = store.derivation("o/base", f"o/child@{sha('c')}")
    assert edge is not None
    assert (edge.relation, edge.status) == (Relation.FINETUNE, Status.DECLARED)
    assert [(e.kind, e.where) for e in edge.evidence] == [(EvidenceKind.CARD, "README.md")]
    assert store.counts().mentioned == 1
    assert store.states()["o/child"].commit == sha("c")


def test_mention_vanishes_when_its_repo_is_read(store: Store) -> None:
    store.import_edges(edges([("o/root", "o/base"), ("o/base", "o/other")]), "f.csv")
    store.put_record(record("o/child", "c", 5, "o/base"))
    store.put_record(record("o/base", "b", 3))
    assert edge_list(store) == [
        ("o/root", "o/base@b"), ("o/base@b", "o/child@c"), ("o/base@b", "o/other"),
    ]  # fmt: skip
    assert "o/base" not in ids(store)
    assert set(descendants(store, ["o/root"]).nodes) == {
        "o/root", f"o/base@{sha('b')}", f"o/child@{sha('c')}", "o/other",
    }  # fmt: skip


def test_an_older_pinned_mention_takes_over_from_the_plain_one(store: Store) -> None:
    store.put_record(record("o/kid", "c", 5, claim("o/base", commit=sha("b"))))
    store.put_record(record("o/two", "d", 5, "o/base"))
    store.import_edges(edges([("o/base", "o/kid"), ("o/root", "o/base")]), "f.csv")
    assert ("o/base@b", "o/kid@c") in edge_list(store)
    assert ("o/base", "o/two@d") in edge_list(store)
    store.put_record(record("o/base", "b", 1))
    assert edge_list(store) == [
        ("o/root", "o/base@b"), ("o/base@b", "o/kid@c"), ("o/base@b", "o/two@d"),
    ]  # fmt: skip
    joined = store.derivation(f"o/base@{sha('b')}", f"o/kid@{sha('c')}")
    assert joined is not None
    assert [e.where for e in joined.evidence] == ["README.md", "f.csv"]


@pytest.mark.parametrize(
    ("made", "parent"),
    [(9, "f"), (6, "f"), (5, "e"), (2, "e"), (1, "e"), (None, "f")],
)
def test_claim_lands_on_the_newest_not_younger(store: Store, made: int | None, parent: str) -> None:
    store.put_record(record("o/base", "e", 2))
    store.put_record(record("o/base", "f", 6))
    store.put_record(record("o/child", "c", made, "o/base"))
    assert edge_list(store) == [(f"o/base@{parent}", "o/child@c")]


def test_order_of_crawling_does_not_matter(store: Store) -> None:
    records = [
        record("o/base", "e", 2), record("o/base", "f", 6), record("o/child", "c", 4, "o/base"),
        record("o/late", "d", 7, "o/base", "o/child"),
    ]  # fmt: skip
    expected = [("o/base@e", "o/child@c"), ("o/base@f", "o/late@d"), ("o/child@c", "o/late@d")]
    for number, order in enumerate(permutations(records)):
        for one in order:
            store.put_record(_in_family(one, f"f{number}"))
    found = edge_list(store)
    assert len(found) == 3 * 24
    for number in range(24):
        family = [(p, c) for p, c in found if p.startswith(f"f{number}/")]
        assert [(p.replace(f"f{number}/", "o/"), c.replace(f"f{number}/", "o/"))
                for p, c in family] == expected  # fmt: skip


def _in_family(one: Record, owner: str) -> Record:
    name = one.revision.repo.replace("o/", f"{owner}/")
    claims = tuple(
        c.model_copy(update={"repo": str(c.repo).replace("o/", f"{owner}/")}) for c in one.claims
    )
    return Record(one.revision.model_copy(update={"repo": name}), claims)


def history(owner: str, chance: random.Random) -> list[Record]:
    """What a crawl might write of few repos: new commits, renamings, mentions, changed claims."""
    repos = [f"{owner}/{letter}" for letter in "abcd"]
    found = []
    for _ in range(12):
        repo, commit = chance.choice(repos), chance.choice(["e", "f", None])
        named = chance.sample([*repos, f"{owner}/unread"], chance.randrange(3))
        said = [claim(n, commit=chance.choice([None, sha("e"), "main"])) for n in named]
        old = chance.choice(repos) if chance.random() < 0.1 else None
        at = {"e": 2, "f": 6, None: None}[commit]
        found.append(record(repo, commit, at, *said, alias=None if old == repo else old))
    return found


def test_many_records_at_once_are_as_one_by_one(store: Store, tmp_path: Path) -> None:
    chance = random.Random(4)
    histories = [history(f"f{n}", chance) for n in range(20)]
    records = [one for turn in zip(*histories, strict=True) for one in turn]
    declared = edges([("f0/z", "f0/a"), ("f1/a", "f1/b"), ("f2/b", "f2/z")])
    store.import_edges(declared, "f.csv")
    assert store.put_records(iter(records)) == 240
    with SqliteStore(tmp_path / "one.db") as other:
        other.import_edges(declared, "f.csv")
        for one in records:
            other.put_record(one)
        assert everything(store) == everything(other)


def test_pinned_and_abbreviated_commits(store: Store) -> None:
    for letter, at in (("e", 2), ("f", 6)):
        store.put_record(record("o/base", letter, at))
    store.put_record(record("o/x", "x", 9, claim("o/base", commit=sha("e"))))
    store.put_record(record("o/y", "y", 9, claim("o/base", commit=sha("e")[:8])))
    store.put_record(record("o/z", "z", 9, claim("o/base", commit="main")))
    assert edge_list(store) == [
        ("o/base@e", "o/x@x"), ("o/base@e", "o/y@y"), ("o/base@f", "o/z@z"),
    ]  # fmt: skip


def test_no_self_edge_ever(store: Store) -> None:
    store.import_edges(edges([("o/a", "o/b"), ("o/b", "o/a")]), "f")
    store.put_record(record("o/a", "a", 1, "o/a", claim("o/a", commit=sha("a"))))
    store.put_record(record("o/b", "b", 2, alias="o/a2"))
    store.put_record(record("o/a", "c", 3, "o/a"))
    store.put_derivations([Derivation(parent="o/a", child="o/a")])
    assert all(edge.parent != edge.child for edge in store.all_derivations())
    assert len(store.claims(f"o/a@{sha('c')}")) == 1
    pinned = claim("o/a", commit=sha("a"))
    store.put_record(record("o/a", "c", 3, pinned))
    assert ("o/a@a", "o/a@c") in edge_list(store)


def test_new_record_replaces_claims_and_their_edges(store: Store) -> None:
    child = f"o/child@{sha('c')}"
    store.put_record(record("o/child", "c", 5, "o/wrong", "o/kept", "o/measured", "o/csv"))
    sketch = Evidence(kind=EvidenceKind.SKETCH, score=1, where="w")
    store.put_derivations([Derivation(parent="o/measured", child=child, evidence=(sketch,))])
    store.put_derivations(
        [Derivation(parent="o/csv", child=child,
                    evidence=(Evidence(kind=EvidenceKind.IMPORT, where="f"),))]
    )  # fmt: skip
    assert store.derivation("o/measured", child).status is Status.CORROBORATED  # type: ignore[union-attr]
    again = record("o/child", "c", 5, "o/right", "o/kept")
    for _ in range(2):
        store.put_record(again)
        assert [(e.parent, e.status) for e in store.derivations_into([child])] == [
            ("o/csv", Status.DECLARED), ("o/kept", Status.DECLARED),
            ("o/measured", Status.MEASURED), ("o/right", Status.DECLARED),
        ]  # fmt: skip
    assert [c.repo for c in store.claims(child)] == ["o/right", "o/kept"]
    assert [c.repo for _, c in store.all_claims()] == ["o/right", "o/kept"]


def test_new_record_replaces_artifacts(store: Store) -> None:
    first = record("o/m", "c", 1)
    old = Artifact(name="a", format="gguf", model_digest="aa" * 32)
    new = Artifact(name="b", format="gguf", model_digest="bb" * 32)
    for artifact in (old, new):
        store.put_record(Record(first.revision.model_copy(update={"artifacts": (artifact,)})))
    assert store.revisions_of("o/m")[0].artifacts == (new,)
    assert store.find_digest("blake3:" + "aa" * 32) == []
    assert store.find_digest("blake3:" + "bb" * 32) == [first.revision.id]
    assert store.counts().artifacts == 1


def test_unresolved_claims_are_kept_and_make_no_edge(store: Store) -> None:
    lost = claim("o/x", reason="gone")
    path = Claim(source=ClaimSource.CONFIG, file="config.json", raw="/tmp/x", reason="local_path")
    store.put_record(record("o/child", "c", 1, lost, path))
    assert store.claims(f"o/child@{sha('c')}") == [lost, path]
    assert edge_list(store) == []
    counts = store.counts()
    assert (counts.claims, counts.unresolved_claims, counts.edges) == (2, 2, 0)


def test_claims_of_several_files_are_several_witnesses(store: Store) -> None:
    recipe = {"source": ClaimSource.RECIPE, "file": "mergekit_config.yml", "method": "ties"}
    store.put_record(
        record(
            "o/child", "c", 1, "o/p",
            claim("o/p", relation=Relation.MERGE, coefficient=0.5, role="source", **recipe),
            claim("o/q", relation=Relation.MERGE, coefficient=0.25, role="source", **recipe),
            claim("o/q", relation=Relation.MERGE, role="base", **recipe),
        )
    )  # fmt: skip
    first, second = store.derivations_into([f"o/child@{sha('c')}"])
    assert [e.kind for e in first.evidence] == [EvidenceKind.CARD, EvidenceKind.RECIPE]
    assert (first.relation, first.method, first.coefficient) == (Relation.MERGE, "ties", 0.5)
    assert len(second.evidence) == 1
    assert (second.method, second.coefficient) == ("ties", 0.25)


def test_renamed_repo_takes_its_edges_along(store: Store) -> None:
    store.import_edges(edges([("old/name", "o/x"), ("o/root", "old/name")]), "f")
    store.put_record(record("o/kid", "d", 9, "old/name"))
    store.put_record(record("new/name", "c", 3, alias="old/name"))
    assert edge_list(store) == [
        ("o/root", "new/name@c"), ("new/name@c", "o/kid@d"), ("new/name@c", "o/x"),
    ]  # fmt: skip
    assert store.aliases() == {"old/name": "new/name"}
    there = f"new/name@{sha('c')}"
    assert [r.id for r in store.revisions_of("old/name")] == [there]
    assert [r.id for r in store.revisions([f"old/name@{sha('c')}"])] == [there]
    asked = f"old/name@{sha('c')}"
    assert store.nodes([asked]) == {asked: store.nodes([there])[there]}
    assert len(store.derivations_into([asked])) == 1
    assert store.derivation(asked, "o/x") is not None
    assert resolve(store, parse_ref("old/name")) == [there]
    store.put_record(record("o/late", "e", 9, "old/name"))
    store.import_edges(edges([("old/name", "o/y")]), "f")
    assert set(edge_list(store)) > {("new/name@c", "o/late@e"), ("new/name@c", "o/y")}
    assert "old/name" not in ids(store)


def test_rename_after_the_old_name_was_read(store: Store) -> None:
    store.put_record(record("old/name", "a", 1, "o/base"))
    store.put_record(record("o/kid", "d", 9, "old/name"))
    store.put_record(record("new/name", "b", 3, "o/base", alias="old/name"))
    assert edge_list(store) == [
        ("o/base", "new/name@a"), ("o/base", "new/name@b"), ("new/name@b", "o/kid@d"),
    ]  # fmt: skip
    store.put_record(record("newest/name", "b", 3, "o/base", alias="new/name"))
    assert store.aliases() == {"new/name": "newest/name", "old/name": "newest/name"}
    assert edge_list(store) == [
        ("o/base", "newest/name@a"), ("o/base", "newest/name@b"), ("newest/name@b", "o/kid@d"),
    ]  # fmt: skip
    assert [r.modified_at for r in store.revisions_of("old/name")] == [day(1), day(3)]


def test_renaming_back_and_forth_ends(store: Store) -> None:
    store.put_record(record("x/one", "a", 1, alias="x/two"))
    store.put_record(record("x/two", "a", 1, alias="x/one"))
    assert store.aliases() == {"x/one": "x/two"}
    assert ids(store) == [f"x/two@{sha('a')}"]
    store.put_record(record("x/one", "a", 1, alias="x/two"))
    assert store.aliases() == {"x/two": "x/one"}
    assert ids(store) == [f"x/one@{sha('a')}"]


def test_metadata_joins_what_was_read(store: Store) -> None:
    read = record("o/m", "c", 1).revision
    read = read.model_copy(update={"artifacts": (Artifact(name="a", format="gguf"),)})
    store.put_record(Record(read))
    imported = Revision(repo="o/m", commit=sha("c"), downloads=5, state=State.MENTIONED)
    assert store.put_revisions([imported, Revision(repo="o/m", downloads=9)]) == 2
    assert store.revisions_of("o/m") == [read.model_copy(update={"downloads": 5})]


def test_dated_metadata_is_known_and_takes_the_mentions_edges(store: Store) -> None:
    store.import_edges(edges([("o/m", "o/x")]), "f")
    store.put_revisions([Revision(repo="o/m", commit=sha("c"), created_at=day(1))])
    assert edge_list(store) == [("o/m@c", "o/x")]


def test_gated_repo_without_commit_stays_a_mention(store: Store) -> None:
    store.put_record(record("o/kid", "c", 5, "o/gated"))
    gated = Revision(repo="o/gated", state=State.GATED)
    state = RepoState("o/gated", None, "none", rev("x", "a", 1).modified_at or day(0), "gated")  # type: ignore[arg-type]
    store.put_record(Record(gated, state=state))
    assert store.revisions(["o/gated"]) == [gated]
    assert edge_list(store) == [("o/gated", "o/kid@c")]
    store.put_record(record("o/gated", "e", 2))
    store.put_record(Record(gated, state=state))
    assert edge_list(store) == [("o/gated@e", "o/kid@c")]
    assert "o/gated" not in ids(store)
    assert store.counts().problems == 1


def test_imported_edges_land_on_revisions_that_were_read(store: Store) -> None:
    for letter, at in (("e", 2), ("f", 6)):
        store.put_record(record("o/base", letter, at))
    store.put_record(record("o/kid", "c", 3))
    rows = [DeclaredEdge("o/base", "o/kid", Relation.MERGE)]
    assert store.import_edges(rows, "f") == 1
    assert store.import_edges(rows, "f") == 0
    assert edge_list(store) == [("o/base@e", "o/kid@c")]
    store.put_derivations([Derivation(parent="o/base", child="o/kid", method="ties")])
    assert edge_list(store) == [("o/base@e", "o/kid@c")]


def test_record_written_twice_changes_nothing(store: Store) -> None:
    rows = [
        record("o/base", "e", 2, alias="o/older"), record("o/kid", "c", 3, "o/base", "o/none"),
        record("o/top", "d", 4, "o/kid", "o/older"),
    ]  # fmt: skip
    for one in rows:
        store.put_record(one)
    before = list(store.all_derivations()), list(store.all_revisions()), store.counts()
    for one in rows:
        store.put_record(one)
    assert (list(store.all_derivations()), list(store.all_revisions()), store.counts()) == before
