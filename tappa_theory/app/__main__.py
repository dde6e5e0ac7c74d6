"""`python -m tappa_theory.app` is the command `tappa`."""

import sys

from tappa_theory.app.cli import main

sys.exit(main())
