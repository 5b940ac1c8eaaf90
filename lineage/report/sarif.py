"""SARIF 2.1.0: findings for code review and scanning.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

import json
from collections.abc import Iterable
from typing import Any, TextIO

from lineage import __version__
from lineage.domain.errors import UsageError
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.report.answer import Answer
from lineage.report.documents import CheckDocument, RecipeFinding
from lineage.report.identity import page
from lineage.report.impact_view import dose_text

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
# SARIF, 3.27.9 and 3.27.10: only `fail` has a level other than `none`.
_KINDS = {
    ExposureStatus.AFFECTED: ("fail", "error"),
    ExposureStatus.UNDER_INVESTIGATION: ("review", "none"),
    ExposureStatus.NOT_AFFECTED: ("pass", "none"),
    ExposureStatus.FIXED: ("pass", "none"),
}


class SarifReporter:
    """Writes an incident, or the check of a recipe, as one SARIF run."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write the log. Raises UsageError for answers that hold no findings."""
        match answer.document:
            case Impact() as impact:
                run = _impact_run(impact)
            case CheckDocument() as check:
                run = _check_run(check)
            case _:
                raise UsageError(
                    "sarif shows findings", hint="Use it with `lineage impact` or `check`."
                )
        log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
        json.dump(log, out, indent=2, ensure_ascii=True)
        out.write("\n")


def _run(rules: list[dict[str, Any]], results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    driver = {"name": "lineage", "semanticVersion": __version__, "rules": rules}
    return {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": [*results]}


def _impact_run(impact: Impact) -> dict[str, Any]:
    advisory = impact.advisory
    rule = {
        "id": advisory.id,
        "shortDescription": {"text": advisory.summary or advisory.id},
        "defaultConfiguration": {"level": "error"},
        "properties": {"hazard": advisory.hazard, "severity": advisory.severity.value},
    }
    run = _run([rule], [_exposure_result(advisory.id, e) for e in impact.exposures])
    run["properties"] = {"complete": impact.complete}
    return run


def _exposure_result(rule: str, exposure: Exposure) -> dict[str, Any]:
    kind, level = _KINDS[exposure.status]
    dose = dose_text(exposure)
    status = exposure.status.value.replace("_", " ")
    text = f"{exposure.id} is {status}: {exposure.reason}" + (f"; dose {dose}" if dose else "")
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": 0,
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [_revision_location(exposure.id)],
        "partialFingerprints": {"revision/v1": f"{rule}:{exposure.id}"},
        "properties": {
            key: value
            for key, value in (
                ("depth", exposure.depth),
                ("dose", exposure.dose),
                ("doseLow", exposure.dose_low),
                ("doseHigh", exposure.dose_high),
                ("basis", exposure.basis.value if exposure.basis else None),
                ("tier", exposure.tier),
                ("downloads", exposure.downloads),
            )
            if value is not None
        },
    }
    if exposure.depth and len(exposure.path) > 1:
        steps = [{"location": _revision_location(step)} for step in exposure.path]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _revision_location(name: str) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": name, "kind": "module"}]
    }
    address = page(name)
    if address:
        location["physicalLocation"] = {"artifactLocation": {"uri": address}}
    return location


def _check_run(check: CheckDocument) -> dict[str, Any]:
    kinds = sorted({finding.kind for finding in check.findings})
    rules = [{"id": f"recipe/{kind}", "shortDescription": {"text": _RULES[kind]}} for kind in kinds]
    return _run(rules, [_check_result(check, f, kinds.index(f.kind)) for f in check.findings])


_RULES = {
    "tainted": "A source is touched by an advisory.",
    "contradicted": "What a source claims of its parents is contradicted by its weights.",
    "gone": "A source is gone: whoever registers the name again decides what is merged.",
    "unknown": "A source is not in the store: nothing is known of it.",
    "unhashed": "No hash of the weights of a source is known: nothing proves what they are.",
    "unpinned": "A source has no commit: what is merged depends on the day.",
    "unresolved": "A source names no repository that others could fetch.",
}


def _check_result(check: CheckDocument, finding: RecipeFinding, rule: int) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": check.recipe}}
    if finding.line is not None:
        physical["region"] = {"startLine": finding.line}
    return {
        "ruleId": f"recipe/{finding.kind}",
        "ruleIndex": rule,
        "kind": "fail",
        "level": finding.level,
        "message": {"text": f"{finding.source}: {finding.message}"},
        "locations": [{"physicalLocation": physical}],
        "partialFingerprints": {"source/v1": f"{finding.kind}:{finding.source}:{finding.advisory}"},
    }
