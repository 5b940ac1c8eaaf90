"""Write the JSON Schemas of every answer to `schemas/`: `python -m scripts.schemas`."""

import json
from pathlib import Path

from lineage.domain.advisory import Advisory
from lineage.domain.alert import Alert
from lineage.domain.base import Model
from lineage.domain.exposure import Impact
from lineage.report import documents, sign_documents, verify_documents

FOLDER = Path(__file__).resolve().parent.parent / "schemas"

SCHEMAS: dict[str, type[Model]] = {
    "advisories": documents.AdvisoriesDocument,
    "advisory": Advisory,
    "contents": documents.ContentsDocument,
    "contents-parts": documents.ContentsPartsDocument,
    "check": documents.CheckDocument,
    "explain": documents.ExplainDocument,
    "export": documents.ExportDocument,
    "impact": Impact,
    "job": documents.JobDocument,
    "path": documents.PathDocument,
    "reach": documents.ReachDocument,
    "remediate": documents.RemediationDocument,
    "show": documents.ShowDocument,
    "show-advisory": documents.AdvisoryDocument,
    "show-tensors": documents.TensorsDocument,
    "signs": sign_documents.SignsDocument,
    "status": documents.StatusDocument,
    "verify": verify_documents.VerifyDocument,
    "webhook": Alert,
}


def render(name: str) -> str:
    """Return the text of the schema called `name`."""
    schema = SCHEMAS[name].model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / f"{name}.schema.json").write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    main()
