"""Changes to third-party code: made where they mend something, left out where nothing is to mend, refused otherwise."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.compat import changes, registry
from nemo_distill.compat.changes import Change, find, source_of, wrap
from nemo_distill.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def change(*, applies: bool, mended: bool, when="always") -> tuple[Change, list]:
    made: list = []
    return Change(
        name="norm", changes="upstream.Norm.of", why="It is off by one.", upstream="none", versions="upstream 1.2",
        when=when, applies=lambda: applies, mended=lambda: mended, make=lambda *given: made.append(given),
    ), made  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_made_yet(monkeypatch):
    monkeypatch.setattr(changes, "_made", {})


def test_what_is_there_to_mend_is_mended_once():
    norm, made = change(applies=True, mended=False)
    assert norm.apply() and norm.apply() and made == [()] and changes.changes_made() == ("norm",)


def test_what_is_asked_for_is_made_of_what_is_given_each_time():
    norm, made = change(applies=True, mended=False, when="on request")
    assert norm.apply(1) and norm.apply(2) and made == [(1,), (2,)]


def test_what_upstream_has_mended_is_left_alone():
    norm, made = change(applies=False, mended=True)
    assert not norm.apply() and made == [] and changes.changes_made() == ()


def test_where_upstream_is_neither_one_sentence_says_so():
    norm, made = change(applies=False, mended=False)
    for verb in (norm.apply, norm.check):
        with pytest.raises(UserError, match=r"'norm' to upstream.Norm.of was made for upstream 1.2, and .* neither"):
            verb()
    assert made == []


def test_what_is_wrapped_is_called_by_what_wraps_it_once_however_often_it_is_asked_for():
    class Norm:
        def of(self, x):
            return x

    def replacement(original, norm, x):
        return original(norm, x) + 1

    for _ in range(2):
        wrap(Norm, "of", replacement)
    assert Norm().of(1) == 2 and Norm.of.__name__ == "of"


def test_names_and_sources_are_found_and_what_is_not_there_is_none():
    assert find("json:JSONDecoder.decode") is not None and find("json:no.such") is None and find("no_such") is None
    assert "def dumps" in source_of("json:dumps") and source_of("json:no") == ""


def test_the_page_lists_every_change_as_it_is():
    assert len({one.name for one in registry.CHANGES}) == len(registry.CHANGES)
    for one in registry.CHANGES:
        texts = [getattr(one, field.name) for field in dataclasses.fields(one)[:6]]
        assert all(text and "|" not in text and "\n" not in text for text in texts), one.name
        assert one.upstream.startswith(("https://", "none: ")), one.name
    assert (ROOT / changes.PAGE).read_text(encoding="utf-8") == registry.page(), (
        "python -m nemo_distill.compat.registry"
    )


def test_a_launch_imports_nemo_run_without_torch_which_is_there_again_afterwards():
    code = (
        "import importlib.util, sys\n"
        "from nemo_distill.compat.nemo_run import imported_alone\n"
        "with imported_alone():\n"
        "    import nemo_distill.launch.local.experiment\n"
        "assert 'nemo_run' in sys.modules and 'torch' not in sys.modules and importlib.util.find_spec('torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
