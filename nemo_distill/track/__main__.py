"""`python -m nemo_distill.track RUNS ID KIND`, see `nemo_distill.track.follow`."""

import sys

from nemo_distill.track.follow import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
