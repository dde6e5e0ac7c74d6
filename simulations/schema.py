"""The JSON Schema of simulations.json, which every simulations.json passes before it is written."""

import json
from importlib.resources import files
from typing import Any


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of simulations.json."""
    return json.loads(files("simulations").joinpath("simulations.schema.json").read_text("utf-8"))


def validate(document: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError if the document is not a valid simulations.json."""
    from jsonschema import Draft202012Validator

    # Tuples are written as JSON arrays; the validator must see what is written.
    Draft202012Validator(schema()).validate(json.loads(json.dumps(document, default=float)))
