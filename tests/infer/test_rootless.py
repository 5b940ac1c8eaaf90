"""Families whose base was not read: their fine-tunes are siblings, none the others' parent."""

from collections.abc import Collection

from lineage.infer.scan import scan
from lineage.infer.types import Findings
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def family() -> dict[str, Model]:
    """A base, four tunes of it, a tune of the first of these, and a merge of two."""
    base = make_base(4, layers=2)
    tunes = {f"tune{n}": tune(base, 40 + n) for n in range(4)}
    further = tune(tunes["tune0"], 50, size=2e-3)
    sources = [tunes["tune1"], tunes["tune2"]]
    merge = combine("linear", base, sources, (0.5, 0.5))
    return {"base": base, **tunes, "further": further, "merge": merge}


def scanned(without: Collection[str] = ()) -> Findings:
    made = enumerate(family().items())
    return scan([subject(n, model_print(w), day) for day, (n, w) in made if n not in without])


def edges(findings: Findings) -> set[tuple[str, str]]:
    return {(d.parent[4:], d.child[4:]) for d in findings.derivations}


MADE = {("tune0", "further"), ("tune1", "merge"), ("tune2", "merge")}


def test_siblings_of_a_model_that_was_not_read_are_not_each_others_children() -> None:
    findings = scanned(without={"base"})
    assert edges(findings) == MADE
    (note,) = findings.notes
    assert "was not read" in note
    assert all(f"org/tune{n}" in note for n in range(4))
    assert "org/further" not in note


def test_what_was_trained_from_the_oldest_is_its_child() -> None:
    findings = scanned()
    assert edges(findings) == MADE | {("base", f"tune{n}") for n in range(4)}
    assert not findings.notes
