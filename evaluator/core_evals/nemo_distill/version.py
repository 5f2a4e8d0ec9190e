"""Says which state of these tasks a score is of, so that scores of two states are never compared.

>>> from core_evals.nemo_distill.version import VERSION, identity
>>> sorted(identity()) == ["version"] or VERSION == 1
True

Moving or rewording code leaves a score what it is. What changes one raises `VERSION`: another question, prompt, way to
sample or rule of scoring. Evaluations of another version are asked again.
"""

VERSION = 1

_IDENTITY_OF_1 = {
    "__init__.py": "726277dcffd80f5ffc2de65ab255f38e5e0edfc1c829bb21d6830a511d57f5dc",
    "offline_code.jsonl": "a5a7d67050b46fdec1bf2aa1de2571078dad8d1e7e70fea46481c0bc7c220d33",
    "offline_ifeval.jsonl": "b83fb4e8cf6c594371118ff4eea6197e7da4fb170505167cab8632d6314a5c3a",
    "offline_knowledge.jsonl": "e6e3bf0539ccb575cca02ff2ef07bee9fe7f29863850347eff5316f47f96437e",
    "offline_math.jsonl": "26781d915b35884c6add41e124f79b5b2793acbc4dc62abc29fb7f0cc7d63b71",
    "offline_science.jsonl": "3295b5a4cea911fd022bd889a273bb5ef03d995787397dc7a16be4a2eed866a9",
    "framework.yml": "77bb96d55ceeafed8acda4614b46ed379116974ba07905b0679114af3e5ada2f",
    "output.py": "0f99d266f9c340385ab4c8f3ed19792c23128db7140b2a99d7a545175d72de5f",
    "runner.py": "212430c2f1aa82d2b8abb0b374bcd03c27dc4595c1f96e6baf195bdc4d30e9f6",
    "sandbox.py": "997e85aedc829835268435da06d4499bfe79d21b4e22b9e083da36dca0f1fe71",
    "score.py": "afae0d59e0f221e0d021ac958670f98a424645de14be382bf37df5d301174303",
}
"""SHA-256 of the tasks' files when versions were first declared: evaluations made before that carry them."""


def identity() -> dict[str, int] | dict[str, str]:
    """What stands for the tasks in the protocol of an evaluation: plain JSON data."""
    return _IDENTITY_OF_1 if VERSION == 1 else {"version": VERSION}
