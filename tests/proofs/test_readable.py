"""The ledger for people: terminal text, ledger.md and the pages of the documentation."""

import re

import pytest

from proofs.ledger import pages, readable


@pytest.mark.parametrize("width", [85, 100, 140])
def test_the_terminal_text_fits_its_width(document, width):
    text = readable.derivation_text(document["theorems"][0], width)
    unbreakable = max(len(word) for word in text.split())
    assert max(map(len, text.splitlines())) <= max(width, unbreakable)
    assert unbreakable < 85
    assert "$" not in text
    assert "\\" not in text


def test_the_terminal_text_has_every_part_once(document):
    text = readable.derivation_text(document["theorems"][0], 100)
    for part in (
        "Setting",
        "Published",
        "Readings",
        "given x > 0",
        "≤ x^2 + y^2",
        "witness: y = 0",
    ):
        assert part in text, part
    assert "for real x, y" in text
    assert "[Solver, z3: the negation is unsatisfiable]" in text
    assert text.count("a square is added") == 1
    assert text.count("the square of x ≤ its double: see square") == 2
    assert "Textbook: So it is. Rule: Counting." in text


def test_a_conclusion_from_another_claim_is_no_textbook_rule(document):
    entry = document["theorems"][0]
    less = next(claim for claim in entry["claims"] if claim["id"] == "less")
    for rule, said in (
        ("The claim double.", "By claim double."),
        ("The claim double: both are.", "By claim double: both are."),
    ):
        changed = less | {"conclusions": [{"claim": "it is", "rule": rule}]}
        claims = [changed if claim is less else claim for claim in entry["claims"]]
        text = readable.derivation_text(entry | {"claims": claims})
        assert f"Hence: It is. {said}" in text
        assert "Textbook" not in text
        page = pages.theorem_page(entry | {"claims": claims})
        link = said.replace("double", "[double](#shift-bound-double)")
        assert f"*Hence*: It is. {link}" in page


def test_every_output_has_the_setting_and_its_symbols(document):
    entry = document["theorems"][0]
    text, page = readable.derivation_text(entry, 1000), pages.theorem_page(entry)
    whole = readable.markdown(document)
    for shown in (text, whole):
        assert "ⅈ" in shown
        assert "ψ is the angle from zw̄ to z'w̄'." in shown
    assert r"$\psi$ is the angle from $z\bar w$" in page
    for page_with_setting in (page, pages.index_page(document)):
        assert "## Setting" in page_with_setting
        assert r"a_{t,i} = \mathrm{Re} \sum_m" in page_with_setting


def test_total_variation_is_explained_where_it_is_used(document):
    entry = document["theorems"][0]
    assert not any("divergence" in item for item in readable.setting([entry]))
    with_rows = entry | {"statement_latex": r"\mathrm{TV}(P, P') \le 1"}
    assert any("divergence" in item for item in readable.setting([with_rows]))


def test_the_summary_tells_why_something_is_open(document):
    assert "open because" not in readable.summary(document)
    entry = document["theorems"][0] | {"status": "open", "open_because": ["the moon is full"]}
    text = readable.summary(document | {"theorems": [entry], "verdict": "open"})
    assert "\n  open because: the moon is full\n" in text
    assert text.endswith("ledger: open")


def test_what_is_not_certified_is_marked(document):
    entry = document["theorems"][0]
    claim = next(claim for claim in entry["claims"] if claim["id"] == "square")
    derivation = claim["derivations"][0]
    link = derivation["links"][0] | {"ok": False, "detail": "unknown"}
    broken = claim | {"ok": False, "derivations": [derivation | {"links": [link]}]}
    changed = entry | {"claims": [broken]}
    assert "square (bound, NOT CERTIFIED)" in readable.derivation_text(changed)
    assert "[NOT CERTIFIED: Solver, z3: unknown]" in readable.derivation_text(changed)
    assert "NOT CERTIFIED" in readable.markdown(document | {"theorems": [changed]})
    assert "**Not certified.**" in pages.theorem_page(changed)
    assert "not certified: Solver, z3: unknown" in pages.theorem_page(changed)


def test_ledger_md_has_tables_of_even_width(document):
    text = readable.markdown(document)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_an_interrupted_run_says_so(document):
    assert "interrupted" in readable.markdown(document | {"complete": False})
    assert "interrupted" not in readable.markdown(document)


# --- pages


def test_a_page_has_every_part_in_order(document):
    page = pages.theorem_page(document["theorems"][0])
    parts = [
        *("**Published.**", "## What became of the published form", "## What is proved"),
        *("## Bounds", "### square", "## Sharpness", "**Witness.** $y = 0$."),
        *("## Counterexamples", "### less", "## Attacks", "## What it means for a head"),
    ]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert page.count("A square is added.") == 1
    assert "see [square](#shift-bound-square)" in page


def test_prose_is_no_markup_and_formulas_stay(document):
    page = pages.theorem_page(document["theorems"][0])
    assert r"For \*all\* $x$." in page
    assert "Mind $|x|$." in page
    assert r"see \[this\]" in page
    assert r"| a\|b |" in page.replace(r"\\|", r"\|")
    assert "of $x$ ≤ its double" in page


def test_every_reading_points_at_its_claims(document):
    page = pages.theorem_page(document["theorems"][0])
    targets = re.findall(r"\]\(#([\w-]+)\)", page)
    assert targets
    for target in targets:
        assert f"({target})=" in page


def test_a_long_formula_is_set_in_aligned_lines(document):
    page = pages.theorem_page(document["theorems"][0])
    aligned = re.findall(r"\\begin\{aligned\}\n(.*?)\n *\\end\{aligned\}", page, re.S)
    assert aligned
    for rows in aligned:
        assert all(row.lstrip().startswith("&") for row in rows.split("\\\\\n"))
    assert max(rows.count("\\\\\n") for rows in aligned) >= 3


def test_pages_are_written_only_where_they_change(document, tmp_path):
    folder = tmp_path / "theorems"
    assert [path.name for path in pages.write_pages(document, folder)] == [
        "index.md",
        "shift_bound.md",
    ]
    before = (folder / "shift_bound.md").stat().st_mtime_ns
    pages.write_pages(document, folder)
    assert (folder / "shift_bound.md").stat().st_mtime_ns == before
    (folder / "shift_bound.md").write_text("old")
    pages.write_pages(document, folder)
    assert (folder / "shift_bound.md").read_text("utf-8").startswith("# Shift bound")


def test_where_a_theorem_is_from_is_told_in_short():
    told = {
        "TAPPA, Why, arXiv 1, Theorem 5.1": "Theorem 5.1",
        "not in the paper: rounding, of angles, and of tables": "not in the paper",
    }
    for source, short in told.items():
        assert readable.origin({"source": source}) == short
