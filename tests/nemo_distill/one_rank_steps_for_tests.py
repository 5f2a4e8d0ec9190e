"""The step of `steps_for_tests` as most steps are: on one rank, whatever the layout."""

from steps_for_tests import main

__all__ = ["main"]
VERSION = 1
