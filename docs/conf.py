"""Sphinx configuration of the site: `make docs`."""

import json
import os
from importlib.metadata import version as installed_version
from pathlib import Path

project = "tappa"
author = "The tappa maintainers"
version = release = installed_version("tappa")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
autodoc_typehints = "signature"

html_theme = "furo"
html_title = f"tappa {version}"
html_static_path = ["_static"]
html_css_files = ["formulas.css"]

ROOT = Path(__file__).parent.parent
# An up-to-date ledger.json may be given; otherwise the theorems are proved here.
LEDGER = Path(os.environ.get("TAPPA_LEDGER", ROOT / "docs/_build/proofs/ledger.json"))


def write_theorem_pages(app):
    """Write docs/theorems from the ledger, which is proved anew when the code is newer."""
    from proofs.ledger.job import run
    from proofs.ledger.pages import write_pages

    if "TAPPA_LEDGER" not in os.environ and _is_stale(LEDGER):
        run((), LEDGER.parent)
    write_pages(json.loads(LEDGER.read_text(encoding="utf-8")), ROOT / "docs/theorems")


def _is_stale(ledger):
    sources = [path for name in ("proofs", "tappa_theory") for path in (ROOT / name).rglob("*.py")]
    return not ledger.is_file() or ledger.stat().st_mtime < max(
        path.stat().st_mtime for path in sources
    )


def keep_bars(app, what, name, obj, options, lines):
    """|x| in a docstring is a norm, not a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    """Sphinx calls this before it looks for pages."""
    app.connect("builder-inited", write_theorem_pages)
    app.connect("autodoc-process-docstring", keep_bars)
