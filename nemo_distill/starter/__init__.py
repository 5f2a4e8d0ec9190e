"""Writes a study to start from, which `nemo-run new` is: recipes, data, questions and a site file that run as they are.

    write_study(Path("my_study"))

What is written is in `files/`, to be read there; the data are made (`sample`), as large as a laptop trains on in
minutes.
"""

from nemo_distill.starter.study import write_study

__all__ = ["write_study"]
