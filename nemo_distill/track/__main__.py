"""`python -m nemo_distill.track RUNS ID KIND`, see `nemo_distill.track.follow`."""

import sys

from nemo_distill.track.follow import main

sys.exit(main(sys.argv[1:]))
