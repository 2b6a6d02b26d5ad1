"""What the JSON of a fold, and of a verification, looks like."""

from __future__ import annotations

from typing import Any

NUMBER = {"type": ["number", "string"]}
DEVIATION = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "max_abs_error": NUMBER,
        "bound": NUMBER,
        "rms": NUMBER,
        "exercised": {"type": "boolean"},
        "within": {"type": "boolean"},
    },
    "required": ["name", "max_abs_error", "bound", "rms", "exercised", "within"],
    "additionalProperties": False,
}
TOOL = {
    "type": "object",
    "properties": {"name": {"const": "bncheck"}, "version": {"type": "string"}},
    "required": ["name", "version"],
}
PROOF = {
    "passed": {"type": "boolean"},
    "runs": {"type": "integer", "minimum": 1},
    "engine": {"type": "string"},
    "outputs": {"type": "array", "items": DEVIATION, "minItems": 1},
    "sites": {"type": "array", "items": DEVIATION},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "schema_version": {"const": 1},
        "tool": TOOL,
        "original": {"type": "string"},
        "output": {"type": ["string", "null"]},
        "folded": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "layer": {"type": "string"},
                    "into": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["layer", "into"],
                "additionalProperties": False,
            },
        },
        "kept": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("layer", "reason", "text")},
                "required": ["layer", "reason", "text"],
                "additionalProperties": False,
            },
        },
        "saved": {"type": "object", "additionalProperties": {"type": "integer"}},
        "verification": {
            "type": ["object", "null"],
            "properties": PROOF,
            "required": [*PROOF],
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
SCHEMA["required"] = [*SCHEMA["properties"]]
