"""`python -m nemo_distill.cli` is `nemo-run`."""

import sys

from nemo_distill.cli import main

if __name__ == "__main__":
    sys.exit(main())
