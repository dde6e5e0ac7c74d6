"""The ledger: a verdict is earned, one object stands behind every formula, the README tells it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch

from proofs.engine.certificates import MissingProver
from proofs.engine.claims import Proof
from proofs.ledger import ledger
from proofs.ledger.ledger import proof_of, prove, work
from proofs.ledger.notation import latex
from proofs.ledger.pages import theorem_page
from proofs.ledger.readable import derivation_text, origin
from proofs.ledger.schema import validate
from tappa_theory.errors import InputError
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

ROOT = Path(__file__).parents[2]
README, FINDINGS = ROOT / "README.md", ROOT / "docs/findings.md"

x = sp.Symbol("x", real=True)


@pytest.fixture
def proving(tiny_proof):
    """Prove a tiny proof, changed as asked, in the place of shift_bound; the document."""

    def run(**changes):
        tiny_proof(**changes)
        found = prove(["shift_bound"], workers=1)
        validate(found)
        return found

    return run


def test_a_certified_proof_is_decided(proving):
    found = proving(second="holds")
    (entry,) = found["theorems"]
    assert (found["verdict"], found["complete"]) == ("decided", True)
    assert (entry["status"], entry["open_because"]) == ("holds", [])
    assert [reading["verdict"] for reading in entry["readings"]] == ["holds", "holds"]
    assert entry["claims"][1]["derivations"][0]["for_all"] == "real $x, y$"
    assert entry["sharpness"] == {"witness": "$y = 0$", "ratio": "1"}
    assert proving()["theorems"][0]["status"] == "repaired"


def test_a_step_that_two_claims_share_is_listed_once(document):
    steps = document["theorems"][0]["steps"]
    assert [step["claim"] for step in steps].count("a square is added") == 1
    assert [step["certificate"] for step in steps].count("Instance") == 2


class Unknown:
    """A certificate that cannot decide."""

    def certify(self, *_):
        from proofs.engine.certificates import Evidence

        return Evidence(False, "z3", "unknown")


class Absent:
    """A certificate whose prover is not installed."""

    def certify(self, *_):
        raise MissingProver("the prover z3 is missing; run: pip install z3-solver")


def test_a_step_that_is_not_certified_leaves_the_theorem_open(proving):
    document = proving(by=Unknown())
    (entry,) = document["theorems"]
    assert (document["verdict"], entry["status"]) == ("open", "open")
    assert entry["open_because"] == ["claim double is not certified"]
    assert [reading["verdict"] for reading in entry["readings"]] == ["open", "refuted"]


def test_a_missing_prover_is_named_and_its_claims_are_open(proving):
    document = proving(by=Absent())
    (entry,) = document["theorems"]
    assert entry["status"] == "open"
    assert entry["open_because"] == [
        "the prover z3 is missing; run: pip install z3-solver",
        "without it these claims are not decided: double",
    ]
    assert "double" not in [claim["id"] for claim in entry["claims"]]
    assert entry["readings"][0]["verdict"] == "open"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rises": 1.01}, "attack a|b"),  # above the bound
        ({"rises": 0.9}, "attack a|b"),  # sharpness claimed and not reached
        ({"rises": float("nan")}, "attack a|b"),
        ({"relation": "="}, "claim less is not certified"),
    ],
)
def test_an_attack_or_instance_that_fails_leaves_the_theorem_open(proving, changes, reason):
    (entry,) = proving(**changes)["theorems"]
    assert (entry["status"], entry["open_because"]) == ("open", [reason])


def test_without_a_derivation_of_the_registrys_bound_nothing_holds(tiny_proof, monkeypatch):
    whole = tiny_proof()
    less = Proof(whole.theorem, whole.claims[1:], whole.readings, whole.attacks)
    monkeypatch.setattr(ledger, "proof_of", lambda name: less)
    (entry,) = prove(["shift_bound"], workers=1)["theorems"]
    assert entry["status"] == "open"
    assert entry["open_because"] == ["no derivation ends with the bound"]


def test_an_interrupt_leaves_a_valid_incomplete_document(tiny_proof, monkeypatch):
    tiny_proof()
    done = []

    def stopped(part):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part)
        return work(part)

    monkeypatch.setattr(ledger, "work", stopped)
    partial = []
    with pytest.raises(KeyboardInterrupt):
        prove(["shift_bound"], workers=1, interrupted=partial.append)
    (found,) = partial
    validate(found)
    assert (found["complete"], found["verdict"]) == (False, "open")
    assert "the run was interrupted" in found["theorems"][0]["open_because"]
    assert found["theorems"][0]["status"] == "open"


def test_an_unknown_theorem_is_answered_with_the_ids():
    with pytest.raises(InputError, match="'nonsense' is unknown; the ids are shift_bound, "):
        prove(["nonsense"])


# --- one object


def random_values(expression, seed):
    """Values for the free symbols that meet what is assumed of them."""
    random = np.random.default_rng(seed)
    values = {}
    for symbol in sorted(expression.free_symbols, key=lambda symbol: symbol.name):
        if symbol.name == "radius":  # arcsin(chord / radius)
            values[symbol] = 9.0
        elif symbol.is_integer:
            values[symbol] = int(random.integers(1, 9))
        elif symbol.name in ("trig_error", "u_table"):  # errors, of which an arcsine is taken
            values[symbol] = float(random.uniform(0.01, 0.3))
        elif symbol.is_nonnegative:
            values[symbol] = float(random.uniform(0.1, 0.9))
        elif symbol.is_real:
            values[symbol] = float(random.normal())
        else:
            values[symbol] = complex(*random.normal(size=2))
    return values


FORMULAS = [
    pytest.param(formula, id=f"{name}-{part}")
    for name, entry in THEOREMS.items()
    for part, formula in {"bound": entry.bound, **entry.auxiliary}.items()
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_numpy_and_torch_evaluate_the_expression_that_is_proved(formula):
    for seed in range(3):
        values = random_values(formula, seed)
        exact = complex(formula.subs(values).evalf(30))
        assert np.isfinite(exact)
        for make in (np.asarray, lambda value: torch.as_tensor(np.asarray(value))):
            arrays = {symbol.name: make([value]) for symbol, value in values.items()}
            found = complex(evaluate(formula, arrays)[0])
            assert found == pytest.approx(exact, rel=1e-12, abs=1e-14)


def typed_bound(statement, values):
    """The right-hand side of a statement typed in LaTeX, one channel, as a number."""
    source = statement.split(r"\le ", 1)[1].split(r",\quad", 1)[0].split(r",\qquad", 1)[0]
    source = re.sub(
        r"([zw])_\{?([ti])(\+[^}]*)?\}?\^m", lambda m: m[1] + ("_" if m[3] else ""), source
    )
    source = re.sub(r"2\\left\|\\sin\\tfrac\{(.*?)\}\{2\}\\right\|", r"2*|sin((\1)/2)|", source)
    source = source.replace(r"\,", " ").replace(r"\sum_m", "").replace(r"\theta_m", "*theta")
    source = source.replace("(*theta", "(theta").replace(r"\lambda", "lam*")
    source = source.replace(r"\left(", "(").replace(r"\right)", ")")
    source = re.sub(r"\|([^|]+)\|", r"abs(\1)", source)
    source = re.sub(r"\)\s*abs", ")*abs", source)
    names = {"sin": np.sin, "abs": np.abs, "lam": values["lambda"], "theta": values["theta"]}
    names |= {"z": values["z"], "z_": values["z_s"], "w": values["w"], "w_": values["w_u"]}
    names |= {name: values[name] for name in "suLN" if name in values}
    return eval(source, {"__builtins__": {}}, names)


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_the_statement_is_the_bound_of_the_registry(name):
    entry = THEOREMS[name]
    by_query, by_key = entry.pattern_shift
    for seed in range(3):
        values = {symbol.name: v for symbol, v in random_values(BOUND, seed).items()}
        values |= {symbol.name: 3 + seed for symbol in entry.parameters}
        values["z_s"] = values["z_s"] if by_query != 0 else values["z"]
        values["w_u"] = values["w_u"] if by_key != 0 else values["w"]
        symbols = {symbol: values[symbol.name] for symbol in entry.bound.free_symbols}
        proved = complex(entry.bound.subs(symbols).evalf()).real
        assert typed_bound(entry.statement, values) == pytest.approx(proved, rel=1e-12)


def test_a_typing_error_in_a_statement_shows():
    entry = THEOREMS["seasonal"]
    values = {symbol.name: v for symbol, v in random_values(BOUND, 0).items()} | {"L": 3}
    values["w_u"] = values["w"]
    right = typed_bound(entry.statement, values)
    for old, new in (
        (r"L\theta_m", r"\theta_m"),
        ("|z_t^m|", "|z_{t+L}^m|"),
        ("2\\left", "3\\left"),
    ):
        assert old in entry.statement
        try:
            wrong = typed_bound(entry.statement.replace(old, new), values)
        except SyntaxError:
            continue
        assert wrong != pytest.approx(right, rel=1e-6)


# --- all of it


@pytest.fixture(scope="module")
def whole():
    """The proofs of all theorems, in two processes."""
    return prove()


def test_everything_is_decided(whole):
    validate(whole)
    assert json.loads(json.dumps(whole, allow_nan=False))["verdict"] == "decided"
    assert (whole["complete"], whole["verdict"]) == (True, "decided")
    assert [entry["id"] for entry in whole["theorems"]] == list(THEOREMS)
    for entry in whole["theorems"]:
        proof = proof_of(entry["id"])
        assert [claim["id"] for claim in entry["claims"]] == [claim.id for claim in proof.claims]
        assert all(claim["ok"] for claim in entry["claims"]), entry["id"]
        assert all(step["ok"] for step in entry["steps"]), entry["id"]
        assert all(attack["ok"] for attack in entry["attacks"]), entry["id"]
        assert entry["status"] == proof.verdict


def test_statement_and_bound_come_from_the_registry(whole):
    for entry in whole["theorems"]:
        registered = THEOREMS[entry["id"]]
        assert entry["statement_latex"] == registered.statement
        assert entry["bound_latex"] == latex(registered.bound)
        assert entry["published"] == registered.published.text
        assert list(entry["auxiliary"]) == list(registered.auxiliary)
        assert entry["bound_proved_by"]


def test_every_formula_of_every_page_can_be_set(whole):
    for entry in whole["theorems"]:
        page = theorem_page(entry)
        shown = re.findall(r"^ *\$\$\n(.*?)\n *\$\$$", page, re.S | re.M)
        assert len(shown) > 10
        for formula in shown:
            bare = re.sub(r"\\[{}]", "", formula)
            assert bare.count("{") == bare.count("}"), formula
            assert formula.count(r"\left") == formula.count(r"\right"), formula
            assert "$" not in formula
        for target in re.findall(r"\]\(#([\w-]+)\)", page):
            assert f"({target})=" in page


def test_every_formula_has_a_plain_form(whole):
    for entry in whole["theorems"]:
        text = derivation_text(entry)
        assert not re.findall(r"\\[a-zA-Z]+|\$", text), entry["id"]
        assert max(map(len, text.splitlines())) <= 100, entry["id"]


def test_the_readme_tells_what_the_ledger_earned(whole):
    rows = re.findall(
        r"^\| `(\w+)`[^|]*(?:\|[^|]*)?\|[^|]*\| (\w+) \|(?:[^|]*\|)? (\w+) \|$",
        README.read_text("utf-8"),
        re.M,
    )
    earned = [
        (entry["id"], entry["status"], "no" if entry["sharpness"] is None else "yes")
        for entry in sorted(whole["theorems"], key=is_beyond_the_paper)
    ]
    assert rows == earned


def is_beyond_the_paper(entry):
    return origin(entry) == "not in the paper"


def numbers(text):
    """Numbers of a text, those of one digit and frequencies of channels aside."""
    plain = text.replace(r"\frac32", "3/2").replace("{,}", "").replace(",", "")
    return set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", plain)) - set("0123456789")


def findings():
    """Heading of a theorem's section -> its text."""
    return dict(re.findall(r"^### (.*)\n((?:(?!##).*\n)*)", FINDINGS.read_text("utf-8"), re.M))


def counted(readings):
    """What the heading says of the readings."""
    holds = sum(reading["verdict"] == "holds" for reading in readings)
    refuted = len(readings) - holds
    said = f"{holds} reading{'s' * (holds > 1)} hold{'s' * (holds == 1)}"
    return said + (f", {refuted} are refuted" if refuted else "")


def test_the_findings_tell_what_the_ledger_earned(whole):
    sections = findings()
    published = [entry for entry in whole["theorems"] if not is_beyond_the_paper(entry)]
    assert list(sections) == [
        f"{origin(entry)}, `{entry['id']}`: {entry['status']} ({counted(entry['readings'])})"
        for entry in published
    ]
    for entry, text in zip(published, sections.values(), strict=True):
        assert f"> {entry['published'].removeprefix('As publicly summarised: ')}\n" in text
        claims = {claim["id"]: claim for claim in entry["claims"]}
        named = re.findall(r"^- `(\w+)`: ((?:.*\n)(?:  .*\n)*)", text, re.M)
        assert bool(named) == (entry["status"] == "repaired")
        for name, said in named:
            assert claims[name]["kind"] == "counterexample", name
            assert numbers(said) <= numbers(claims[name]["statement"]), name


def test_the_findings_beyond_the_paper_name_theorems_and_counterexamples(whole):
    text = FINDINGS.read_text("utf-8").split("## Beyond the paper\n")[1].split("\n## ")[0]
    items = re.findall(r"^- `(\w+)`: ((?:.*\n)(?:  .*\n)*)", text, re.M)
    beyond = [entry for entry in whole["theorems"] if is_beyond_the_paper(entry)]
    assert [name for name, _ in items] == [entry["id"] for entry in beyond]
    for entry, (_, said) in zip(beyond, items, strict=True):
        assert entry["status"] == "holds"
        examples = {claim["id"] for claim in entry["claims"] if claim["kind"] == "counterexample"}
        assert set(re.findall(r"`(\w+)`", said)) <= examples


def test_what_the_findings_measured_stands_in_the_readme():
    text = FINDINGS.read_text("utf-8")
    measured = [part.split("\n\n")[0] for part in text.split("**On real heads.**")[1:]]
    measured += [text.split("\n\n## The published")[0], text.split("\n## What stays open")[1]]
    said = set().union(*map(numbers, measured)) - {"2601.21709"}
    assert len(said) > 15
    assert said <= numbers(README.read_text("utf-8"))
