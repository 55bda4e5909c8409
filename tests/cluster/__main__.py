"""`python -m cluster …` (with `tests` on PYTHONPATH): the test cluster by hand. `make cluster-up` calls it."""

import sys

from cluster.command import main

sys.exit(main(sys.argv[1:]))
