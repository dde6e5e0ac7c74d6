"""Sessions outside CI: the tests on the oldest supported versions of what changes most."""

import nox

FLOOR = ("numpy==2.0.*", "torch==2.6.*", "transformers==4.56.*")


@nox.session(python="3.11")
def floor(session: nox.Session) -> None:
    """Run the tests on the oldest supported numpy, torch and transformers."""
    session.install("-e", ".[dev]", *FLOOR)
    session.run("pytest", *session.posargs, env={"OMP_NUM_THREADS": "1"})
