"""The JSON Schema of ledger.json: what it accepts, and what it refuses."""

import copy

import pytest
from jsonschema import Draft202012Validator, ValidationError

from proofs.ledger.schema import schema, validate


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(schema())


def objects(node, path="schema"):
    if isinstance(node, dict):
        if "properties" in node and "type" in node:
            yield path, node
        for key, value in node.items():
            yield from objects(value, f"{path}.{key}")


def test_every_field_is_required_and_described():
    for path, node in objects(schema()):
        assert set(node.get("required", ())) == set(node["properties"]), path
        for name, field in node["properties"].items():
            assert {"description", "$ref", "const"} & set(field), f"{path}.{name}"


def test_a_ledger_passes(document):
    validate(document)


def drop(*path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


def put(value, *path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        drop("theorems", 0, "readings"),
        drop("theorems", 0, "auxiliary"),
        drop("theorems", 0, "claims", 1, "derivations", 0, "for_all"),
        put(2, "schema"),
        put("proved", "verdict"),
        put([], "theorems"),
        put("true", "theorems", 0, "status"),
        put(False, "complete"),  # decided needs complete
        put("open", "theorems", 0, "status"),  # decided, and open without a reason
        put(["why"], "theorems", 0, "open_because"),  # decided with a reason to be open
        put(False, "theorems", 0, "claims", 0, "ok"),
        put(False, "theorems", 0, "steps", 0, "ok"),
        put(False, "theorems", 0, "attacks", 0, "ok"),
        put([], "theorems", 0, "steps"),
        put("maybe", "theorems", 0, "readings", 0, "verdict"),
        put([], "theorems", 0, "claims", 0, "derivations", 0, "links"),
    ],
)
def test_what_contradicts_itself_is_refused(document, change):
    changed = copy.deepcopy(document)
    change(changed)
    with pytest.raises(ValidationError):
        validate(changed)
