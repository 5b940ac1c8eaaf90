"""The JSON of every answer, as types: what `schemas/` publishes.

Names, once here, stay: other programs read them.
"""

from typing import Literal

from pydantic import computed_field

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Evidence, MergeEvent, Relation, Status
from lineage.domain.exposure import Exposure
from lineage.domain.ids import revision_id
from lineage.domain.revision import Kind, Revision


class RevisionDocument(Revision):
    """A revision with its id."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The revision's name in the graph, `org/name@commit`."""
        return revision_id(self.repo, self.commit)

    @classmethod
    def of(cls, revision: Revision) -> "RevisionDocument":
        """Take over what `revision` holds, which was validated when it was made."""
        return cls.model_construct(**dict(revision))


class EdgeDocument(Derivation):
    """An edge with what its evidence amounts to."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> Status:
        """What the evidence amounts to."""
        return Derivation.status.__get__(self)  # type: ignore[no-any-return]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confidence(self) -> float | None:
        """The score of the strongest supporting measurement."""
        return Derivation.confidence.__get__(self)  # type: ignore[no-any-return]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p_value(self) -> float | None:
        """The smallest p-value of the supporting evidence."""
        return Derivation.p_value.__get__(self)  # type: ignore[no-any-return]

    @classmethod
    def of(cls, derivation: Derivation) -> "EdgeDocument":
        """Take over what `derivation` holds, which was validated when it was made."""
        return cls.model_construct(**dict(derivation))


class Reached(Model):
    """One revision that was reached, by the shortest way, over `witness`."""

    id: str
    depth: int
    witness: str | None
    relation: Relation | None
    status: Status | None
    kind: Kind
    downloads: int | None
    created_at: str | None


class ReachDocument(Model):
    """`descendants` and `ancestors`. `complete` False names in `stopped_by` what cut it short."""

    ref: str
    direction: Literal["descendants", "ancestors"]
    roots: tuple[str, ...]
    revisions: tuple[Reached, ...]
    complete: bool
    stopped_by: str | None = None


class PathDocument(Model):
    """`path`: the shortest way from parent to child, empty where there is none."""

    parent: str
    child: str
    path: tuple[str, ...]
    edges: tuple[EdgeDocument, ...]
    complete: bool
    stopped_by: str | None = None


class ExplainDocument(Model):
    """`explain`: the edges between two, or else the path, with evidence and merges."""

    parent: str
    child: str
    direct: bool
    edges: tuple[EdgeDocument, ...]
    events: tuple[MergeEvent, ...]
    claims: tuple[Claim, ...]
    complete: bool = True


class AdvisoryExposure(Model):
    """How one advisory touches one revision."""

    advisory: str
    summary: str
    exposure: Exposure


class RevisionCard(Model):
    """`show`: one revision and what touches it."""

    revision: RevisionDocument
    claims: tuple[Claim, ...]
    parents: tuple[EdgeDocument, ...]
    children: int
    exposures: tuple[AdvisoryExposure, ...]


class ShowDocument(Model):
    """`show` of anything but an advisory."""

    ref: str
    revisions: tuple[RevisionCard, ...]
    complete: bool = True


class AdvisoryDocument(Model):
    """An advisory as it stands, and how it came to that."""

    advisory: Advisory
    history: tuple[Advisory, ...]
    complete: bool = True


class AdvisoriesDocument(Model):
    """`advisories`."""

    advisories: tuple[Advisory, ...]
    complete: bool = True


class CheckedClaim(Model):
    """A claim and what the weights say of it.

    `verdict` is `confirmed`, `contradicted`, `unchecked` (nothing was measured between the two;
    `why` says why) or `unresolved` (the claim names no repository; `why` is its reason).
    """

    child: str
    claim: Claim
    verdict: Literal["confirmed", "contradicted", "unchecked", "unresolved"]
    why: str = ""
    parent: str | None = None
    evidence: tuple[Evidence, ...] = ()


class VerifyDocument(Model):
    """`verify`: claims against weights. `undeclared` are parents found that nobody declared."""

    ref: str
    revisions: tuple[str, ...]
    claims: tuple[CheckedClaim, ...]
    contradicted: tuple[EdgeDocument, ...]
    undeclared: tuple[EdgeDocument, ...]
    complete: bool = True


class ProblemDocument(Model):
    """Something that could not be read, and why."""

    subject: str
    reason: str
    message: str


class JobDocument(Model):
    """`crawl`, `add`, `import` and `infer`: what was done, counted, and what could not be."""

    job: Literal["crawl", "add", "import", "infer"]
    counts: dict[str, int]
    revisions: tuple[str, ...] = ()
    problems: tuple[ProblemDocument, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool


class StatusDocument(Model):
    """`status`."""

    version: str
    store: str
    home: str
    counts: dict[str, int]
    problems: tuple[ProblemDocument, ...]
    complete: bool = True


class RepoStateDocument(Model):
    """How far a crawl got with one repo."""

    repo: str
    commit: str | None
    mode: str
    seen_at: str
    problem: str | None
    message: str


class ExportedRevision(RevisionDocument):
    """A revision with its id and claims."""

    claims: tuple[Claim, ...] = ()


class ExportDocument(Model):
    """`export --format json`: the whole store, to be read by `import` without loss.

    Each item of a list stands on a line of its own, so that a reader needs no more memory than
    one item takes. `states` and `aliases` are the crawl's progress and the old names of repos.
    """

    format: Literal["lineage-export"]
    version: Literal[1]
    revisions: tuple[ExportedRevision, ...]
    edges: tuple[EdgeDocument, ...]
    events: tuple[MergeEvent, ...]
    advisories: tuple[Advisory, ...]
    states: tuple[RepoStateDocument, ...]
    aliases: dict[str, str]
    complete: bool
