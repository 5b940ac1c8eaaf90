"""OpenVEX 0.2.0: one statement for each exposed revision.

https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md
"""

import json
import uuid
from typing import Any, TextIO

from lineage.domain.advisory import Advisory
from lineage.domain.exposure import Exposure, ExposureStatus
from lineage.report.answer import Answer
from lineage.report.identity import purl
from lineage.report.impact_view import dose_text
from lineage.report.picture import impact_of

_CONTEXT = "https://openvex.dev/ns/v0.2.0"
_NAMESPACE = uuid.UUID("6f6e1c52-7c0e-5a0e-9c5e-6d6f64656c73")


class OpenVexReporter:
    """Writes an incident as an OpenVEX document."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write the document. Raises UsageError for answers that are no incident."""
        impact = impact_of(answer, "openvex")
        advisory = impact.advisory
        time = (advisory.withdrawn or advisory.modified).isoformat()
        statements = [_statement(advisory, e) for e in impact.exposures] or [
            _nothing(advisory)
        ]  # a document has one at least
        body = json.dumps(statements, sort_keys=True)
        document = {
            "@context": _CONTEXT,
            "@id": f"urn:uuid:{uuid.uuid5(_NAMESPACE, advisory.id + time + body)}",
            "author": "lineage",
            "role": "Document Creator",
            "timestamp": time,
            "version": 1,
            "tooling": "lineage",
            "statements": statements,
        }
        json.dump(document, out, indent=2, ensure_ascii=True)
        out.write("\n")


def _vulnerability(advisory: Advisory) -> dict[str, Any]:
    return {"name": advisory.id, "description": f"{advisory.hazard}: {advisory.summary}"}


def _nothing(advisory: Advisory) -> dict[str, Any]:
    """Return the statement of an advisory that exposes nothing: on what it marks."""
    products = [{"@id": _target(target.value)} for target in advisory.targets]
    if advisory.withdrawn is None:
        return {
            "vulnerability": _vulnerability(advisory),
            "products": products,
            "status": "under_investigation",
            "status_notes": "nothing that the advisory marks is in the store",
        }
    return {
        "vulnerability": _vulnerability(advisory),
        "products": products,
        "status": "not_affected",
        "impact_statement": f"The advisory is withdrawn: {advisory.withdrawn_reason}",
    }


def _target(value: str) -> str:
    return f"urn:{value}" if value.startswith(("blake3:", "sha256:")) else purl(value)


def _statement(advisory: Advisory, exposure: Exposure) -> dict[str, Any]:
    """Return one statement with what its status asks for (OpenVEX, "Status labels")."""
    name = purl(exposure.id)
    product: dict[str, Any] = {"@id": name, "identifiers": {"purl": name}}
    if exposure.path and exposure.depth:
        product["subcomponents"] = [{"@id": purl(exposure.path[0])}]
    dose = dose_text(exposure)
    notes = exposure.reason + (f"; dose {dose}" if dose else "")
    statement: dict[str, Any] = {
        "vulnerability": _vulnerability(advisory),
        "timestamp": advisory.modified.isoformat(),
        "products": [product],
        "status": exposure.status.value,
        "status_notes": notes,
    }
    if exposure.status is ExposureStatus.AFFECTED:
        statement["action_statement"] = (
            "Stop offering it; make it again without the source"
            if exposure.depth
            else "Withdraw it: it is marked itself"
        )
    elif exposure.status is ExposureStatus.NOT_AFFECTED:
        statement["impact_statement"] = notes
    return statement
