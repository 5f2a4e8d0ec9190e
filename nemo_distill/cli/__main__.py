"""`python -m nemo_distill.cli` is `nemo-run`."""

import sys

from nemo_distill.cli import main

sys.exit(main())
