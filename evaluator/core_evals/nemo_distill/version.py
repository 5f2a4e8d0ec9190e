"""Says which state of these tasks a score is of, so that scores of two states are never compared.

>>> from core_evals.nemo_distill.version import VERSION, identity
>>> identity() == {"version": VERSION}
True

Moving or rewording code leaves a score what it is. What changes one raises `VERSION`: another question, prompt, way to
sample or rule of scoring. Evaluations of another version are asked again. The versions so far:

1. Of 0.1 and 0.2: an answer without tags of reasoning is judged as it stands, also where it was cut; the last box is
   the last without braces in it, compared as text.
2. What was cut while thinking is no answer; the last box is judged whatever is in it, and compared as a number where
   it is one; a program is the last fenced block that defines the function.
"""

VERSION = 2


def identity() -> dict[str, int]:
    """What stands for the tasks in the protocol of an evaluation: plain JSON data."""
    return {"version": VERSION}
