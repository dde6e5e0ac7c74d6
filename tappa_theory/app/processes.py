"""Processes that a launcher starts with one command line: only the first of them speaks."""

import os


def speaks() -> bool:
    """Is this the only process of its command line, or the first that torchrun started with it?"""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"
