"""Sphinx configuration of the site: `make docs`."""

from importlib.metadata import version as installed_version

project = "tappa"
author = "The tappa maintainers"
version = release = installed_version("tappa")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "deflist"]
exclude_patterns = ["_build"]
autodoc_typehints = "signature"

html_theme = "furo"
html_title = f"tappa {version}"
