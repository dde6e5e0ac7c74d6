"""The JSON Schema of ledger.json, which every ledger.json passes before it is written."""

import json
from importlib.resources import files
from typing import Any


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ledger.json."""
    return json.loads(files("proofs.ledger").joinpath("ledger.schema.json").read_text("utf-8"))


def validate(document: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError if the document is not a valid ledger.json."""
    from jsonschema import Draft202012Validator

    # Tuples are written as JSON arrays; the validator must see what is written.
    Draft202012Validator(schema()).validate(json.loads(json.dumps(document)))
