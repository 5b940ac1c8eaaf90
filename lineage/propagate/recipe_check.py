"""A merge recipe before merging: what its sources are, and what the result would inherit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Literal

from pydantic import JsonValue

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, MergeEvent, Relation
from lineage.domain.errors import UnknownRefError, UsageError
from lineage.domain.exposure import Exposure, ExposureStatus
from lineage.domain.ids import Ref, RefKind, is_commit, is_repo_id, split_revision_id
from lineage.domain.revision import Revision, State
from lineage.graph.refs import resolve
from lineage.graph.store import Store
from lineage.hub.recipes import Ingredient, Recipe, parse_recipes
from lineage.ingest.weighing import Mix
from lineage.propagate.impact import touching
from lineage.propagate.rules import Share, shares
from lineage.propagate.verify import verify

Kind = Literal["tainted", "contradicted", "gone", "unknown", "unhashed", "unpinned", "unresolved"]
Level = Literal["error", "warning", "note"]
Locate = Callable[[str], Sequence[str]]
Weigh = Callable[[Mix], Sequence[float | None] | None]
_WEIGHTLESS = ("sce", "model_stock")

_GONE = {
    State.GONE: "is gone: whoever registers the name again decides what is merged",
    State.DISABLED: "was disabled by the Hub",
    State.PRIVATE: "is private: nobody else can check it",
}
_LEVELS = ("error", "warning", "note")
_EXPOSING = (ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a source."""

    kind: Kind
    level: Level
    source: str
    message: str
    line: int | None = None
    advisory: str | None = None


@dataclass(slots=True)
class Source:
    """A source of a recipe; `ids` are all revisions that its name may mean, newest last.

    `share` is by the rule of the method, `effective` what following it on real weights gave.
    """

    name: str
    role: str
    line: int | None
    repo: str | None
    commit: str | None
    weight: float | None = None
    density: float | None = None
    share: Share | None = None
    effective: float | None = None
    ids: tuple[str, ...] = ()
    exposures: list[tuple[Advisory, Exposure]] = field(default_factory=list)

    @property
    def dose_factor(self) -> float | None:
        """The most of this source's change that the result may hold in the mean, if bounded."""
        if self.effective is not None:
            return self.effective
        if self.share is None:
            return None
        value = self.share.value if self.share.value is not None else self.share.high
        return None if isinf(value) else value


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe's sources and what is wrong with them."""

    methods: tuple[str, ...]
    sources: tuple[Source, ...]
    findings: tuple[Finding, ...]
    mixes: tuple[Mix, ...] = ()


def check_recipe(
    store: Store, text: str, locate: Locate | None = None, weigh: Weigh | None = None
) -> Checked:
    """Return what is known of the sources of a mergekit recipe.

    `locate` finds the revisions that hold the weights of a folder, where a source is one; `weigh`
    follows a merge on the weights of its sources, where they are at hand. Results of earlier
    documents of the same text are no sources of their own. Raises RecipeError.
    """
    recipes = parse_recipes(text)
    made = {recipe.name for recipe in recipes if recipe.name}
    by_recipe = [_sources(recipe, text, made) for recipe in recipes]
    sources = [source for found in by_recipe for source in found]
    findings: list[Finding] = []
    aliases = store.aliases()
    for source in sources:
        findings += _identify(store, source, aliases, locate)
    touched: dict[str, list[tuple[Advisory, Exposure]]] = {}
    for advisory, exposure in touching(store, sorted({i for s in sources for i in s.ids})):
        touched.setdefault(exposure.id, []).append((advisory, exposure))
    for source in sources:
        findings += _taint(source, touched)
        findings += _contradictions(store, source)
    methods = tuple(recipe.method or "unknown" for recipe in recipes)
    mixed = [_mix(recipe, found) for recipe, found in zip(recipes, by_recipe, strict=True)]
    for mix, found in zip(mixed, by_recipe, strict=True):
        held = weigh(mix) if weigh is not None and mix is not None else None
        by_id = dict(zip(mix.sources, held, strict=True)) if mix is not None and held else {}
        for source in found:
            if source.role != "base" and source.ids:
                source.effective = by_id.get(source.ids[-1])
    return Checked(
        methods,
        tuple(sources),
        tuple(sorted(dict.fromkeys(findings), key=lambda f: _LEVELS.index(f.level))),
        tuple(mix for mix in mixed if mix is not None),
    )


def _mix(recipe: Recipe, sources: Sequence[Source]) -> Mix | None:
    """Return a recipe as a merge of known revisions, None where it is none or not all are known.

    What a recipe does not say is as mergekit has it: a density of 1.
    """
    models = [s for s in sources if s.role != "base"]
    base = next((s.ids[-1] for s in sources if s.role == "base" and s.ids), None)
    models = [s for s in models if not s.ids or s.ids[-1] != base]
    weighed = recipe.method not in _WEIGHTLESS
    if recipe.method is None or any(
        not s.ids or s.role == "lora" or (weighed and s.weight is None) for s in models
    ):
        return None
    shared = recipe.parameters.get("select_topk")
    scale, normalize = recipe.parameters.get("lambda"), recipe.parameters.get("normalize")
    usual = float(shared) if isinstance(shared, int | float) else 1.0
    return Mix(
        recipe.method,
        base,
        tuple(s.ids[-1] for s in models),
        tuple(1.0 if s.weight is None else s.weight for s in models),
        tuple(usual if s.density is None else s.density for s in models),
        float(scale) if isinstance(scale, int | float) else 1.0,
        normalize if isinstance(normalize, bool) else None,
    )


def _sources(recipe: Recipe, text: str, made: set[str]) -> list[Source]:
    """Return each source of one recipe once, with its share in the result."""
    found: dict[tuple[str, str], Source] = {}
    bases = {_name(i) for i in recipe.ingredients if i.role == "base"}
    for item in recipe.ingredients:
        name = _name(item)
        key = (name, item.role)
        if name in made or key in found:
            continue
        repo, commit = (item.value if isinstance(item.value, str) else None), item.revision
        density = (item.parameters or {}).get("density", recipe.parameters.get("density"))
        found[key] = Source(
            name,
            item.role,
            _line(text, str(item.value)),
            repo,
            commit,
            item.weight,
            float(density) if isinstance(density, int | float) else None,
        )
    by_name = {s.parent: s for s in _shares(recipe, list(found.values()), bases)}
    for source in found.values():
        source.share = by_name.get(source.name)
    return list(found.values())


def _name(item: Ingredient) -> str:
    return f"{item.value}@{item.revision}" if item.revision else str(item.value)


def _line(text: str, value: str) -> int | None:
    for number, line in enumerate(text.splitlines(), 1):
        if value and value in line.partition(" #")[0]:
            return number
    return None


def _shares(recipe: Recipe, sources: Sequence[Source], bases: set[str]) -> list[Share]:
    """Return what the merge method makes of each source, by the rules of propagation."""
    weights = _weights(recipe, sources)
    scale = recipe.parameters.get("lambda")
    said = Evidence(kind=EvidenceKind.RECIPE)
    edges = [
        Derivation(
            parent=source.name,
            child="",
            relation=_relation(recipe, source),
            method=recipe.method,
            coefficient=weights.get(source.name),
            event="recipe",
            evidence=(said,),
        )
        for source in sources
    ]
    base = next((name for name in bases if weights.get(name) is None), None)
    densities: list[JsonValue] = [s.density for s in sources if s.name != base]
    settings: dict[str, JsonValue] = {"density": densities}
    if isinstance(scale, int | float):
        settings["lambda"] = float(scale)
    event = MergeEvent(id="recipe", child="", method=recipe.method, base=base, parameters=settings)
    return shares(edges, {"recipe": event})


def _relation(recipe: Recipe, source: Source) -> Relation:
    if source.role == "lora":
        return Relation.ADAPTER_MERGE
    return Relation.MOE if recipe.moe else Relation.MERGE


def _weights(recipe: Recipe, sources: Sequence[Source]) -> dict[str, float | None]:
    """Return the weight of each source; SLERP's is in `t`, which counts from the base."""
    if recipe.method != "slerp":
        return {s.name: s.weight for s in sources}
    t = recipe.parameters.get("t")
    if not isinstance(t, int | float):
        return {s.name: None for s in sources}
    return {s.name: float(1 - t if s.role == "base" else t) for s in sources}


def _identify(
    store: Store, source: Source, aliases: Mapping[str, str], locate: Locate | None
) -> Iterator[Finding]:
    """Find the revisions that a source may mean, and say what is wrong with its name."""
    repo, line, name = source.repo, source.line, source.name
    if repo is None or not is_repo_id(repo):
        try:
            source.ids = tuple(locate(repo)) if locate is not None and repo else ()
        except (UnknownRefError, UsageError):
            source.ids = ()
        if not source.ids:
            yield Finding("unresolved", "warning", name, "names no repository of the Hub", line)
        return
    if source.commit is None:
        yield Finding(
            "unpinned", "warning", name, "has no commit: write it as org/name@commit", line
        )
    elif not is_commit(source.commit):
        message = f"'{source.commit}' is a branch or tag, which can be moved: give the commit"
        yield Finding("unpinned", "warning", name, message, line)
    if repo in aliases:
        message = f"was renamed to {aliases[repo]}: the old name can be registered by others"
        yield Finding("gone", "error", name, message, line)
    state = store.states([repo]).get(repo)
    source.ids = _known(store, repo, source.commit)
    revisions = store.revisions(source.ids)
    if not source.ids:
        reason = f" ({state.problem}: {state.message})" if state and state.problem else ""
        gone = state is not None and state.problem == "gone"
        message = f"is not in the store{reason}; crawl it first"
        yield Finding("gone" if gone else "unknown", "error" if gone else "warning",
                      name, _GONE[State.GONE] if gone else message, line)  # fmt: skip
        return
    yield from _standing(revisions, source)
    if state is not None and state.problem == "gone":
        yield Finding("gone", "error", name, _GONE[State.GONE], line)


def _known(store: Store, repo: str, commit: str | None) -> tuple[str, ...]:
    if commit is not None and is_commit(commit):
        ref = Ref(RefKind.REVISION, f"{repo}@{commit}", repo, commit)
    else:
        ref = Ref(RefKind.REPO, repo, repo)
    try:
        return tuple(resolve(store, ref))
    except UnknownRefError:
        return ()


def _standing(revisions: Sequence[Revision], source: Source) -> Iterator[Finding]:
    """Say what is wrong with the revisions themselves."""
    for state in sorted({r.state for r in revisions} & set(_GONE)):
        level: Level = "error" if state is State.GONE else "warning"
        yield Finding("gone", level, source.name, _GONE[state], source.line)
    if all(r.state is State.MENTIONED for r in revisions):
        message = "was only named by others and never read; crawl it first"
        yield Finding("unknown", "warning", source.name, message, source.line)
    elif not any(_hashed(r) for r in revisions):
        message = "no hash of its weights is known"
        yield Finding("unhashed", "warning", source.name, message, source.line)


def _hashed(revision: Revision) -> bool:
    return any(a.model_digest or any(f.sha256 for f in a.files) for a in revision.artifacts)


def _taint(
    source: Source, touched: Mapping[str, list[tuple[Advisory, Exposure]]]
) -> Iterator[Finding]:
    """Say which advisories stand over any revision that the source may mean."""
    for name in source.ids:
        for advisory, exposure in touched.get(name, ()):
            if exposure.status not in _EXPOSING:
                continue
            source.exposures.append((advisory, exposure))
            affected = exposure.status is ExposureStatus.AFFECTED
            status = exposure.status.value.replace("_", " ")
            which = "" if name == source.name else f"as {split_revision_id(name)[1]}: "
            message = f"{which}{status} by {advisory.id} ({advisory.summary}): {exposure.reason}"
            yield Finding(
                "tainted", "error" if affected else "warning", source.name, message,
                source.line, advisory.id,
            )  # fmt: skip


def _contradictions(store: Store, source: Source) -> Iterator[Finding]:
    for edge in verify(store, source.ids).contradicted:
        repo, _ = split_revision_id(edge.parent)
        message = f"claims to descend from {repo}, which its weights contradict"
        yield Finding("contradicted", "error", source.name, message, source.line)
