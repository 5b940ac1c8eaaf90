"""CycloneDX 1.6: models as components with their pedigree, advisories as vulnerabilities.

Each item is built and serialised by cyclonedx-python-lib and written on its own, so that a bill
of the whole store needs no more memory than one model takes.
https://cyclonedx.org/docs/1.6/json/
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from lineage import __version__
from lineage.domain.advisory import Advisory, Severity
from lineage.domain.derivation import Derivation
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.report.answer import Answer
from lineage.report.graph_views import evidence_summary
from lineage.report.identity import page, purl
from lineage.report.picture import impact_of
from lineage.report.text import clean

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, Pedigree
    from cyclonedx.model.dependency import Dependency
    from cyclonedx.model.vulnerability import Vulnerability, VulnerabilitySeverity

Properties = Iterable[tuple[str, object]]


class CycloneDxReporter:
    """Writes an incident as a bill of materials."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write what is exposed with its parents. Raises UsageError for other answers."""
        impact = impact_of(answer, "cyclonedx")
        into: dict[str, list[Derivation]] = {}
        for edge in answer.edges:
            into.setdefault(edge.child, []).append(edge)
        exposures = {e.id: e for e in impact.exposures}
        parents = {edge.parent for edge in answer.edges} - set(exposures)
        components = [
            *(component(e.id, into.get(e.id, ()), _exposure_facts(e)) for e in impact.exposures),
            *(component(name, (), ()) for name in sorted(parents)),
        ]
        write_bom(
            out,
            components,
            [dependency(name, [e.parent for e in into.get(name, ())]) for name in exposures],
            list(_vulnerabilities(impact)),
        )


def write_bom(
    out: TextIO,
    components: "Iterable[Component]",
    dependencies: "Iterable[Dependency]",
    vulnerabilities: "Iterable[Vulnerability]" = (),
) -> None:
    """Write a bill of materials, each item on a line of its own."""
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(),
            "tools": {
                "components": [{"type": "application", "name": "lineage", "version": __version__}]
            },
        },
    }
    out.write(json.dumps(head, indent=2, ensure_ascii=True).removesuffix("\n}"))
    for name, items in (
        ("components", components),
        ("dependencies", dependencies),
        ("vulnerabilities", vulnerabilities),
    ):
        out.write(f',\n  "{name}": [')
        comma = ""
        for item in items:
            out.write(f"{comma}\n    {_serialised(item)}")
            comma = ","
        out.write("\n  ]" if comma else "]")
    out.write("\n}\n")


def _serialised(item: "Component | Dependency | Vulnerability") -> str:
    from cyclonedx.schema.schema import SchemaVersion1Dot6

    text: str = item.as_json(SchemaVersion1Dot6)  # type: ignore[union-attr]
    return json.dumps(json.loads(text), ensure_ascii=True)


def component(
    name: str, parents: Iterable[Derivation], facts: Properties, *, top: bool = True
) -> "Component":
    """Return a model as a component; its pedigree holds its parents and how it was made.

    Only a component at the `top` of the bill has a reference of its own.
    """
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    repo, commit = split_revision_id(name)
    owner, _, plain = repo.rpartition("/")
    address = page(name)
    website = ExternalReferenceType.WEBSITE
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=name if top else None,
        group=clean(owner) or None,
        name=clean(plain),
        version=commit,
        purl=PackageURL.from_string(purl(name)) if address else None,
        external_references=[ExternalReference(type=website, url=XsUri(address))]
        if address
        else [],
        properties=list(_properties(facts)),
        pedigree=_pedigree(list(parents)),
    )


def _pedigree(edges: list[Derivation]) -> "Pedigree | None":
    from cyclonedx.model.component import Pedigree

    if not edges:
        return None
    ancestors = [
        component(edge.parent, (), _edge_facts(edge), top=False)
        for edge in edges
        if edge.parent != edge.child
    ]
    methods = sorted({edge.method or edge.relation.value for edge in edges})
    return Pedigree(ancestors=ancestors, notes=f"made by {', '.join(map(clean, methods))}")


def revision_facts(revision: Revision) -> Iterator[tuple[str, object]]:
    """Yield what is known of a revision, for its properties."""
    yield "kind", revision.kind.value
    yield "state", revision.state.value
    yield "architecture", revision.architecture
    yield "downloads", revision.downloads
    for artifact in revision.artifacts:
        if artifact.model_digest:
            yield "digest", f"blake3:{artifact.model_digest}"
        for file in artifact.files:
            if file.sha256:
                yield "file", f"sha256:{file.sha256} {file.path}"


def _edge_facts(edge: Derivation) -> Iterator[tuple[str, object]]:
    yield "relation", edge.relation.value
    yield "method", edge.method
    yield "coefficient", edge.coefficient
    yield "status", edge.status.value
    yield "p_value", edge.p_value
    yield "evidence", evidence_summary(edge.evidence)


def _exposure_facts(exposure: Exposure) -> Iterator[tuple[str, object]]:
    yield "status", exposure.status.value
    yield "reason", exposure.reason
    yield "dose", exposure.dose
    yield "dose_low", exposure.dose_low
    yield "dose_high", exposure.dose_high
    yield "basis", exposure.basis.value if exposure.basis else None
    yield "tier", exposure.tier
    yield "depth", exposure.depth
    yield "witness", exposure.witness
    yield "downloads", exposure.downloads


def _properties(facts: Properties) -> "Iterator[Property]":
    from cyclonedx.model import Property

    for key, value in facts:
        if value is not None and value != "":
            yield Property(name=f"lineage:{key}", value=clean(str(value)))


def dependency(child: str, parents: Iterable[str]) -> "Dependency":
    """Return that a model needs its parents."""
    from cyclonedx.model.bom_ref import BomRef
    from cyclonedx.model.dependency import Dependency

    others = sorted(set(parents) - {child})
    return Dependency(BomRef(child), [Dependency(BomRef(parent)) for parent in others])


def _vulnerabilities(impact: Impact) -> "Iterator[Vulnerability]":
    """Yield the advisory once for each status: its analysis holds for all that it names."""
    from cyclonedx.model import XsUri
    from cyclonedx.model.impact_analysis import ImpactAnalysisState
    from cyclonedx.model.vulnerability import (
        BomTarget,
        Vulnerability,
        VulnerabilityAdvisory,
        VulnerabilityAnalysis,
        VulnerabilityRating,
        VulnerabilitySource,
    )

    advisory = impact.advisory
    states = {
        ExposureStatus.AFFECTED: ImpactAnalysisState.EXPLOITABLE,
        ExposureStatus.UNDER_INVESTIGATION: ImpactAnalysisState.IN_TRIAGE,
        ExposureStatus.NOT_AFFECTED: ImpactAnalysisState.NOT_AFFECTED,
        ExposureStatus.FIXED: ImpactAnalysisState.RESOLVED,
    }
    for status, state in states.items():
        names = [e.id for e in impact.exposures if e.status is status]
        if names:
            yield Vulnerability(
                bom_ref=f"{advisory.id}/{status.value}",
                id=advisory.id,
                source=VulnerabilitySource(name="lineage"),
                ratings=[VulnerabilityRating(severity=_severity(advisory))],
                description=clean(f"{advisory.hazard}: {advisory.summary}"),
                advisories=[VulnerabilityAdvisory(url=XsUri(r)) for r in _links(advisory)],
                published=advisory.published,
                updated=advisory.modified,
                analysis=VulnerabilityAnalysis(state=state),
                affects=[BomTarget(ref=name) for name in names],
            )


def _links(advisory: Advisory) -> list[str]:
    return [r for r in advisory.references if r.startswith(("https://", "http://"))]


def _severity(advisory: Advisory) -> "VulnerabilitySeverity":
    from cyclonedx.model.vulnerability import VulnerabilitySeverity

    return {
        Severity.LOW: VulnerabilitySeverity.LOW,
        Severity.MODERATE: VulnerabilitySeverity.MEDIUM,
        Severity.HIGH: VulnerabilitySeverity.HIGH,
        Severity.CRITICAL: VulnerabilitySeverity.CRITICAL,
    }[advisory.severity]
