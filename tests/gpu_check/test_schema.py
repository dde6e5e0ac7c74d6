"""The JSON Schema of check.json: what it accepts, and every kind of fault that it must refuse."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from gpu_check.schema import schema, validate
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS

THEOREM_FIELDS = (
    "applicable reason shift pairs violations undecided max_ratio mean_ratio worst hypotheses "
    "informative published_violations prediction"
)
HEAD_FIELDS = (
    "layer head kv_head q_similarity k_similarity dominant_channel dominant_share "
    "frequency_dominant_channel kappa angle_deviation pattern_predicted pattern_observed "
    "predictability theorems"
)
LIFETIME_FIELDS = "rows certified observed_old observed certified_share broken angle turn"
REUSE_FIELDS = (
    "rows discarded observed measured a_priori oscillation oscillation_a_priori tightness "
    "informative_measured informative top_certified top_observed broken"
)
KL_FIELDS = "steps predicted observed remainder lowest highest informative outside"
# Every field that other programs read, as a path into check.json; * is every element of a list.
CONTRACT = [
    *["schema", "complete", "verdict", "model", "texts", "environment", "heads", "layers"],
    "summary",
    *[f"model.{n}" for n in ("id", "architecture", "layers", "heads", "kv_heads", "head_dim")],
    *[f"model.rope.*.{n}" for n in ("layers", "base", "type", "rotary_dim")],
    *[f"texts.*.{n}" for n in ("source", "sha256", "tokens")],
    *[f"environment.{n}" for n in ("device", "dtype")],
    *[f"heads.*.{n}" for n in HEAD_FIELDS.split()],
    *[
        f"heads.*.q_similarity.{n}"
        for n in ("adjacent_pre", "adjacent_post", "all_pairs_pre", "window_post")
    ],
    "heads.*.k_similarity.adjacent_pre",
    *[f"heads.*.theorems.{t}.{n}" for t in SHIFT_THEOREMS for n in THEOREM_FIELDS.split()],
    *[f"heads.*.theorems.{t}.worst.{n}" for t in SHIFT_THEOREMS for n in "ti"],
    *[
        f"heads.*.theorems.{t}.prediction.{n}"
        for t in SHIFT_THEOREMS
        for n in ("predicted", "observed")
    ],
    *[f"heads.*.{n}" for n in ("angle_bound", "lifetime", "reuse", "kl")],
    *[f"heads.*.angle_bound.{n}" for n in ("bound", "within")],
    *[f"heads.*.lifetime.{n}" for n in LIFETIME_FIELDS.split()],
    *[
        f"heads.*.lifetime.{which}.{n}"
        for which in ("certified", "observed_old", "observed")
        for n in ("mean", "median", "low", "high")
    ],
    *[f"heads.*.reuse.{step}.{n}" for step in (1, 4, 16) for n in REUSE_FIELDS.split()],
    *[f"heads.*.kl.{n}" for n in KL_FIELDS.split()],
    "heads.*.text",
    *[f"texts.*.{n}" for n in ("chat", "loss")],
    "model.rope.*.texts",
    *[f"exemplars.*.{n}" for n in ("pattern", "text", "layer", "head", "map", "block")],
    "precision",
    "summary.spread",
    "layers.*.layer",
    "layers.*.q_similarity",
]


@pytest.fixture(scope="module")
def valid(checked) -> dict[str, Any]:
    return json.loads((checked.folder / "check.json").read_text(encoding="utf-8"))


def at(document: Any, path: list[str]) -> list[Any]:
    """Everything that a path leads to."""
    if not path:
        return [document]
    if path[0] == "*":
        assert document, "an empty list shows nothing"
        return [found for item in document for found in at(item, path[1:])]
    return at(document[path[0]], path[1:])


def test_the_schema_is_itself_valid():
    Draft202012Validator.check_schema(schema())


def test_the_schema_knows_the_patterns_and_theorems_by_their_registered_names():
    head = schema()["$defs"]["head"]
    for name in ("pattern_predicted", "pattern_observed", "pattern_published"):
        assert head["properties"][name]["enum"] == [*PATTERNS, None]
    assert head["properties"]["theorems"]["required"] == list(SHIFT_THEOREMS)


def test_a_written_document_is_valid(valid):
    validate(valid)


@pytest.mark.parametrize("path", CONTRACT)
def test_every_field_of_the_contract_is_there(valid, path):
    assert at(valid, path.split("."))


@pytest.mark.parametrize("path", CONTRACT)
def test_a_missing_field_is_refused(valid, path):
    document = copy.deepcopy(valid)
    *parents, name = path.split(".")
    holder = at(document, parents)[0]
    del holder[name]
    with pytest.raises(ValidationError, match=f"'{name}' is a required property"):
        validate(document)


def head(document: dict[str, Any]) -> dict[str, Any]:
    return document["heads"][-1]


def theorem(document: dict[str, Any], name: str = "seasonal") -> dict[str, Any]:
    return head(document)["theorems"][name]


FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another schema": lambda d: d.update(schema=2),
    "complete as a word": lambda d: d.update(complete="yes"),
    "an unknown verdict": lambda d: d.update(verdict="passed"),
    "no text": lambda d: d.update(texts=[]),
    "an empty text": lambda d: d["texts"][0].update(tokens=0),
    "a text's name as a number": lambda d: d["texts"][0].update(source=3),
    "a number of layers as a word": lambda d: d["model"].update(layers="two"),
    "a rope base as a word": lambda d: d["model"]["rope"][0].update(base="10000"),
    "layers of a rope as numbers with a fraction": lambda d: d["model"]["rope"][0].update(
        layers=[0.5]
    ),
    "heads as an object": lambda d: d.update(heads={}),
    "a negative layer": lambda d: head(d).update(layer=-1),
    "a head with a fraction": lambda d: head(d).update(head=0.5),
    "an unknown pattern, predicted": lambda d: head(d).update(pattern_predicted="diagonal"),
    "an unknown pattern, observed": lambda d: head(d).update(pattern_observed="sink"),
    "an unknown pattern, published": lambda d: head(d).update(pattern_published=""),
    "a similarity as a word": lambda d: head(d)["q_similarity"].update(adjacent_pre="0.9"),
    "a negative channel": lambda d: head(d).update(dominant_channel=-1),
    "a share above one": lambda d: head(d).update(dominant_share=1.5),
    "a negative kappa": lambda d: head(d).update(kappa=-0.1),
    "a negative energy": lambda d: head(d).update(channel_energy=[1.0, -1.0]),
    "predictability above one": lambda d: head(d).update(predictability=2.0),
    "drift as a word": lambda d: head(d)["drift"].update(kl="small"),
    "negative pairs": lambda d: theorem(d).update(pairs=-1),
    "negative violations": lambda d: theorem(d).update(violations=-1),
    "violations with a fraction": lambda d: theorem(d).update(violations=0.5),
    "violations as null": lambda d: theorem(d).update(violations=None),
    "negative undecided": lambda d: theorem(d).update(undecided=-3),
    "negative published violations": lambda d: theorem(d).update(published_violations=-1),
    "a negative ratio": lambda d: theorem(d).update(max_ratio=-0.5),
    "informative above one": lambda d: theorem(d).update(informative=1.2),
    "a shift of one number": lambda d: theorem(d).update(shift=[1]),
    "a shift of three": lambda d: theorem(d).update(shift=[1, 0, 0]),
    "applicable as null": lambda d: theorem(d).update(applicable=None),
    "a worst pair at a negative position": lambda d: theorem(d)["worst"].update(t=-1),
    "a hypothesis as a word": lambda d: theorem(d)["hypotheses"].update(query_drift="small"),
    "a unit nobody counts": lambda d: theorem(d).update(published_counted="rows"),
    "a threshold as a word": lambda d: d["thresholds"].update(visible="a third"),
    "an exemplar of an unknown pattern": lambda d: d["exemplars"][0].update(pattern="stripes"),
    "an exemplar of blocks of zero": lambda d: d["exemplars"][0].update(block=0),
    "a layer as a word": lambda d: d["layers"][0].update(layer="first"),
    "a head of a negative text": lambda d: head(d).update(text=-1),
    "an exemplar of a text by name": lambda d: d["exemplars"][0].update(text="a.txt"),
    "a chat as a word": lambda d: d["texts"][0].update(chat="yes"),
    "a bound as a word": lambda d: head(d)["angle_bound"].update(bound="small"),
    "a negative bound": lambda d: head(d)["angle_bound"].update(bound=-1e-4),
    "within as a number": lambda d: head(d)["angle_bound"].update(within=0),
    "negative rows": lambda d: head(d)["lifetime"].update(rows=-1),
    "rows with a fraction": lambda d: head(d)["lifetime"].update(rows=1.5),
    "a negative lifetime": lambda d: head(d)["lifetime"]["certified"].update(median=-1),
    "a lifetime as null": lambda d: head(d)["lifetime"]["observed"].update(mean=None),
    "a certified share above one": lambda d: head(d)["lifetime"].update(certified_share=1.5),
    "a negative angle": lambda d: head(d)["lifetime"].update(angle=-0.1),
    "negative broken rows": lambda d: head(d)["lifetime"].update(broken=-1),
    "reuse at no horizon": lambda d: head(d).update(reuse={}),
    "a mass above one": lambda d: head(d)["reuse"]["4"].update(observed=1.1),
    "a certificate as null": lambda d: head(d)["reuse"]["16"].update(a_priori=None),
    "a negative oscillation": lambda d: head(d)["reuse"]["1"].update(oscillation=-1.0),
    "a share of rows above one": lambda d: head(d)["reuse"]["1"].update(top_certified=2),
    "broken with a fraction": lambda d: head(d)["reuse"]["1"].update(broken=0.5),
    "a negative divergence": lambda d: head(d)["kl"].update(observed=-0.1),
    "a remainder as a word": lambda d: head(d)["kl"].update(remainder="small"),
    "an informative share above one": lambda d: head(d)["kl"].update(informative=1.2),
    "outside as null": lambda d: head(d)["kl"].update(outside=None),
    "a summary of lifetimes as a number": lambda d: d["summary"].update(lifetime=1.0),
    "a negative loss": lambda d: d["texts"][0].update(loss=-1.0),
}


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_refused(valid, plant):
    document = copy.deepcopy(valid)
    plant(document)
    assert document != valid
    with pytest.raises(ValidationError):
        validate(document)


SPREAD = {
    "texts": 2,
    "numbers": {
        "agreement": {"by_text": [0.5, None], "mean": 0.5, "min": 0.5, "max": 0.5, "std": None}
    },
    "observed_stable": 0.5,
    "predicted_stable": None,
}
NUMBER = SPREAD["numbers"]["agreement"]
MEASURED = {
    "dtype": "bfloat16",
    "reference": "float32",
    "text": 0,
    "heads": 8,
    "observed_changed": 1,
    "predicted_changed": 0,
    "differences": {"drift.kl": {"median": 0.1, "max": None}},
    "loss": {"dtype": 2.0, "reference": None},
    "angle_deviation": {"dtype": 1e-3, "reference": 1e-6},
}
NOT_MEASURED = {"dtype": "bfloat16", "reference": "float32", "not_measured": "no memory"}


def test_a_spread_and_both_forms_of_precision_are_valid(valid):
    document = copy.deepcopy(valid)
    document["summary"]["spread"] = SPREAD
    for precision in (None, MEASURED, NOT_MEASURED):
        validate(document | {"precision": precision})


@pytest.mark.parametrize(
    "spread",
    [
        *[{k: v for k, v in SPREAD.items() if k != name} for name in SPREAD],
        *[
            SPREAD | {"numbers": {"agreement": {k: v for k, v in NUMBER.items() if k != name}}}
            for name in NUMBER
        ],
        SPREAD | {"texts": 1},
        SPREAD | {"numbers": {}},
        SPREAD | {"observed_stable": 1.5},
        SPREAD | {"numbers": {"agreement": NUMBER | {"std": -0.1}}},
        SPREAD | {"numbers": {"agreement": NUMBER | {"by_text": ["half"]}}},
    ],
)
def test_a_fault_in_the_spread_is_refused(valid, spread):
    document = copy.deepcopy(valid)
    document["summary"]["spread"] = spread
    with pytest.raises(ValidationError):
        validate(document)


@pytest.mark.parametrize(
    "precision",
    [
        *[{k: v for k, v in MEASURED.items() if k != name} for name in MEASURED],
        *[{k: v for k, v in NOT_MEASURED.items() if k != name} for name in NOT_MEASURED],
        MEASURED | {"heads": -1},
        MEASURED | {"text": 1},
        MEASURED | {"differences": {"drift.kl": {"median": -0.1, "max": 0.1}}},
        MEASURED | {"differences": {"drift.kl": {"median": 0.1}}},
        MEASURED | {"loss": 2.0},
        MEASURED | {"angle_deviation": {"dtype": 1e-3}},
        "float32",
    ],
)
def test_a_fault_in_the_precision_is_refused(valid, precision):
    with pytest.raises(ValidationError):
        validate(valid | {"precision": precision})


def described(part: Any, path: str = "") -> list[str]:
    """Paths of the fields without a description, or with an empty one."""
    found = []
    if isinstance(part, dict):
        for name, value in part.get("properties", {}).items():
            if not (value.get("description") or "$ref" in value or "properties" in value):
                found.append(f"{path}.{name}")
        for name, value in part.items():
            found += described(value, f"{path}.{name}")
    elif isinstance(part, list):
        for item in part:
            found += described(item, path)
    return found


def test_every_field_is_described():
    assert described(schema()) == []


def test_fields_beyond_the_contract_are_welcome(valid):
    document = copy.deepcopy(valid)
    for holder in (document, head(document), theorem(document), document["model"]):
        holder["more"] = 1
    validate(document)


def test_what_applies_to_nothing_may_be_null(valid):
    document = copy.deepcopy(valid)
    for name in ("angle_bound", "lifetime", "reuse", "kl"):
        head(document)[name] = None
        document["summary"][name] = None
    for name in ("kappa", "dominant_channel", "channel_energy", "pattern_observed"):
        head(document)[name] = None
    for name in ("shift", "max_ratio", "worst", "informative", "published_violations"):
        theorem(document)[name] = None
    validate(document)
