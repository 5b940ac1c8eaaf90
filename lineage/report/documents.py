"""The JSON of every answer, as types: what `schemas/` publishes.

Names, once here, stay: other programs read them.
"""

from typing import Literal

from pydantic import computed_field

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Relation, Status
from lineage.domain.exposure import Exposure, ExposureStatus
from lineage.domain.ids import revision_id
from lineage.domain.revision import Kind, Revision
from lineage.report.sign_documents import SourceSignsDocument


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


class SourceDocument(Model):
    """How much of one source's own change is inside, with its 95 % interval."""

    id: str
    coefficient: float
    low: float
    high: float


class ContentsDocument(Model):
    """`contents`: what is inside one revision. `unexplained` is the share that nothing explains."""

    id: str
    sources: tuple[SourceDocument, ...]
    unexplained: float


class ContentsPart(Model):
    """One tensor or one layer (`other`: what is outside layers), and what it holds."""

    name: str
    sources: tuple[SourceDocument, ...]


class ContentsPartsDocument(ContentsDocument):
    """`contents --per`: what is inside one revision, and inside each of its parts."""

    per: Literal["layer", "tensor"]
    parts: tuple[ContentsPart, ...]


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


class TensorDocument(Model):
    """A tensor of an artifact. `digest` is None where the weights were not read whole.

    `telling` is False for what is equal everywhere (constants, masks): nothing is found by it.
    """

    revision: str
    artifact: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str | None
    telling: bool


class TensorsDocument(Model):
    """`show --tensors`."""

    ref: str
    tensors: tuple[TensorDocument, ...]
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


class ExportedTensor(Model):
    """A tensor by the first half of its digest, in hex, and the ids of revisions that hold it."""

    digest: str
    revisions: tuple[str, ...]


class ExportDocument(Model):
    """`export --format json`: the whole store, to be read by `import` without loss.

    Each item of a list stands on a line of its own, so that a reader needs no more memory than
    one item takes. `states` and `aliases` are the crawl's progress and the old names of repos. A
    tensor that very many hold is there several times, each with others.
    """

    format: Literal["lineage-export"]
    version: Literal[1]
    revisions: tuple[ExportedRevision, ...]
    edges: tuple[EdgeDocument, ...]
    events: tuple[MergeEvent, ...]
    advisories: tuple[Advisory, ...]
    states: tuple[RepoStateDocument, ...]
    tensors: tuple[ExportedTensor, ...]
    aliases: dict[str, str]
    complete: bool


class RecipeSource(Model):
    """A source of a recipe that was checked.

    `id` is the revision it names, the newest known where it has no commit; None where it names
    none in the store. `share` is the coefficient of its change in the result, as method, weights
    and normalisation have it, in the mean; `basis` says whether the method was followed on the
    `weights` of all sources or is the method's `rule`. `prevailing` is the most that it may be by
    the rule. None where the recipe does not say (gradients).
    """

    source: str
    role: str
    id: str | None = None
    weight: float | None = None
    density: float | None = None
    share: float | None = None
    prevailing: float | None = None
    basis: Literal["weights", "rule"] | None = None
    line: int | None = None


class RecipeFinding(Model):
    """Something wrong with a source of a recipe. `line` counts from 1 in the recipe's file."""

    kind: Literal[
        "tainted", "contradicted", "gone", "unknown", "unhashed", "unpinned", "unresolved"
    ]
    level: Literal["error", "warning", "note"]
    source: str
    message: str
    line: int | None = None
    advisory: str | None = None


class Inherited(Model):
    """What the result of a recipe would get from one source. `dose` where it is known."""

    advisory: str
    summary: str
    hazard: str
    source: str
    id: str
    status: ExposureStatus
    dose: float | None = None


class CheckDocument(Model):
    """`check`: a merge recipe before merging. `methods` are those of its documents.

    `signs` are numbers of its sources beside those of ordinary ones, of those with weights at hand.
    """

    recipe: str
    methods: tuple[str, ...]
    sources: tuple[RecipeSource, ...]
    findings: tuple[RecipeFinding, ...]
    inherits: tuple[Inherited, ...]
    signs: tuple[SourceSignsDocument, ...] = ()
    complete: bool = True


class RemedyDocument(Model):
    """What to do about one exposed revision.

    `action` is `withdraw` (it is marked, or nothing is left of it), `remake` (merge again by
    `recipe`, mergekit's YAML), `redo` (convert, quantize or copy again from what was remade) or
    `retrain`. `output` is the folder in which later recipes look for the result, `basis` where
    the recipe is from. `lost` are sources left out, `replaced` those taken in their remade form.
    `stop_gap` is a recipe that subtracts the change of the marked source, `stop_gap_dose` times.
    """

    id: str
    action: Literal["withdraw", "remake", "redo", "retrain"]
    relation: Relation | None
    method: str | None = None
    basis: Literal["claimed", "recovered"] | None = None
    recipe: str | None = None
    output: str | None = None
    lost: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    stop_gap: str | None = None
    stop_gap_dose: float | None = None
    notes: tuple[str, ...] = ()


class RemediationDocument(Model):
    """`remediate`: what to do, parents before children."""

    advisory: str
    steps: tuple[RemedyDocument, ...]
    complete: bool
