"""What SARIF and OpenVEX ask of the documents that we write.

`official` gives the schemas of the specifications, which lie in `official/`. `SARIF` and `OPENVEX`
are stricter: what is in the prose alone (sections in comments), and nothing that we do not write.
"""

import json
from pathlib import Path
from typing import Any

MESSAGE: dict[str, Any] = {  # 3.11
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
LOCATION: dict[str, Any] = {  # 3.28
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "physicalLocation": {  # 3.29
            "type": "object",
            "required": ["artifactLocation"],
            "additionalProperties": False,
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "format": "uri-reference"}},
                    "additionalProperties": False,
                },
                "region": {
                    "type": "object",
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                    "additionalProperties": False,
                },
            },
        },
        "logicalLocations": {  # 3.33
            "type": "array",
            "minItems": 0,
            "uniqueItems": True,
            "items": {
                "type": "object",
                "properties": {
                    "fullyQualifiedName": {"type": "string"},
                    "kind": {"type": "string"},
                },
                "additionalProperties": False,
            },
        },
    },
}
RESULT: dict[str, Any] = {  # 3.27
    "type": "object",
    "required": ["message", "ruleId", "ruleIndex"],
    "additionalProperties": False,
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {
            "enum": ["notApplicable", "pass", "fail", "review", "open", "informational"],
        },
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION},
        "codeFlows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["threadFlows"],
                "properties": {
                    "threadFlows": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["locations"],
                            "properties": {
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "properties": {"location": LOCATION},
                                        "additionalProperties": False,
                                    },
                                }
                            },
                        },
                    }
                },
            },
        },
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
    },
    # 3.27.10: a result whose kind is not "fail" has level "none".
    "if": {"properties": {"kind": {"not": {"const": "fail"}}}, "required": ["kind"]},
    "then": {"properties": {"level": {"const": "none"}}},
}
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string"},
                                    "semanticVersion": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": MESSAGE,
                                                "defaultConfiguration": {"type": "object"},
                                                "properties": {"type": "object"},
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": RESULT},
                    "properties": {"type": "object"},
                },
            },
        },
    },
}
PRODUCT: dict[str, Any] = {
    "type": "object",
    "required": ["@id"],
    "additionalProperties": False,
    "properties": {
        "@id": {"type": "string", "format": "iri"},
        "identifiers": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"purl": {"type": "string", "pattern": "^pkg:huggingface/"}},
        },
        "subcomponents": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "required": ["@id"]},
        },
    },
}
OPENVEX: dict[str, Any] = {
    "type": "object",
    "required": ["@context", "@id", "author", "timestamp", "version", "statements"],
    "additionalProperties": False,
    "properties": {
        "@context": {"const": "https://openvex.dev/ns/v0.2.0"},
        "@id": {"type": "string", "format": "iri"},
        "author": {"type": "string", "minLength": 1},
        "role": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "last_updated": {"type": "string", "format": "date-time"},
        "version": {"type": "integer", "minimum": 1},
        "tooling": {"type": "string"},
        "statements": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "type": "object",
                "required": ["vulnerability", "status", "products"],
                "additionalProperties": False,
                "properties": {
                    "vulnerability": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string", "minLength": 1},
                            "description": {"type": "string"},
                        },
                    },
                    "timestamp": {"type": "string", "format": "date-time"},
                    "products": {"type": "array", "minItems": 1, "items": PRODUCT},
                    "status": {
                        "enum": ["not_affected", "affected", "fixed", "under_investigation"],
                    },
                    "status_notes": {"type": "string"},
                    "impact_statement": {"type": "string"},
                    "action_statement": {"type": "string"},
                },
                "allOf": [
                    {
                        "if": {"properties": {"status": {"const": "not_affected"}}},
                        "then": {"required": ["impact_statement"]},
                    },
                    {
                        "if": {"properties": {"status": {"const": "affected"}}},
                        "then": {"required": ["action_statement"]},
                    },
                    {
                        "if": {
                            "properties": {"status": {"enum": ["fixed", "under_investigation"]}}
                        },
                        "then": {
                            "not": {
                                "anyOf": [
                                    {"required": ["impact_statement"]},
                                    {"required": ["action_statement"]},
                                ]
                            }
                        },
                    },
                ],
            },
        },
    },
}


def official(name: str) -> dict[str, Any]:
    """Return the official schema in the file of that name."""
    file = Path(__file__).parent / "official" / name
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema
