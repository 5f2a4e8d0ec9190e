"""A step for the tests of the machinery, as `steps_for_tests`, whose process goes on with the next."""

import steps_for_tests

from nemo_distill.run import at_work

VERSION = 1
MANY_RANKS = True
GOES_ON = True


def main(spec) -> None:
    """As `steps_for_tests.main`, again and again."""
    work = at_work.here()
    steps_for_tests.main(spec)
    while work.may_go_on(lambda after: True):
        spec, _ = work.go_on()
        steps_for_tests.main(spec)
