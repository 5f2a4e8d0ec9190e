"""A recipe's mistakes: one sentence with file, line and the nearest right name, exit 2, nothing written."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GOOD = '''"""A recipe."""
from nemo_distill import PUBLISHED, Blend, Context, Distill, Settings, entrypoint, main, run_experiment

BLEND = Blend.of(
    "mine",
    ("sft-code", 60, PUBLISHED),
    ("stem", 40, PUBLISHED),
)
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones=(25,)))


@entrypoint
def mine(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Mine."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(mine)
'''


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


MISTAKES = {
    # syntax and encoding
    ":9:20: '(' was never closed": changed("milestones=(25,)))", "milestones=(25,))"),
    ":13:62: expected ':'": changed("-> None:", "-> None"),
    "(unicode error) 'utf-8' codec can't decode byte 0xe9": changed("A recipe", "Une recétte").encode("latin-1"),
    "null bytes": changed("A recipe", "A \0 recipe"),
    # a comma
    ":6: a 'tuple' object is not callable: is a comma missing at the end of a row?": changed(
        "60, PUBLISHED),", "60, PUBLISHED)"
    ),
    # imports
    ":2: Blend, Settings come from nemo_distill: write from nemo_distill import Blend, Settings.": changed(
        "from nemo_distill", "from nemo_distill.blend import Blend, Settings\nfrom nemo_distill"
    ),
    ":2: nemo_distill has no 'Blnd'. Did you mean 'Blend'?": changed("Blend, Context", "Blnd, Context"),
    ":2: nemo_distill.config.blend has no 'PUBLISHD'. Did you mean 'PUBLISHED'?": changed(
        "from nemo_distill", "from nemo_distill.config.blend import PUBLISHD\nfrom nemo_distill"
    ),
    ":2: there is no module nemo_distill.blends; what a recipe needs is in nemo_distill itself.": changed(
        "from nemo_distill import", "import nemo_distill.blends\nfrom nemo_distill import"
    ),
    ":2: there is no module 'numpyy', neither installed nor beside the recipe.": changed(
        '"""\nfrom', '"""\nimport numpyy; from'
    ),
    ":2: there is no module 'neighbours', neither installed nor beside the recipe. Did you mean 'neighbour'?": changed(
        '"""\nfrom', '"""\nimport neighbours; from'
    ),
    # names, fields and arguments
    ":9: nothing is called 'BLEN' here. Did you mean 'BLEND'?": changed("blend=BLEND", "blend=BLEN"),
    ":12: nothing is called 'run' here: @entrypoint and main come from nemo_distill.": changed(
        "@entrypoint", "@run.cli.entrypoint(type='experiment')"
    ),
    ":4: Blend has no 'off'. Did you mean 'of'?": changed("Blend.of", "Blend.off"),
    ":9: Distill has no argument 'learning_rat'. Did you mean 'learning_rate'?": changed(
        "(25,)", "(25,), learning_rat=1"
    ),
    ":9: Settings has no argument 'lr'": changed("blend=BLEND", "blend=BLEND, lr=1"),
    ":9: Settings needs 'blend' as well.": changed("blend=BLEND, ", ""),
    ":9: Distill takes its arguments by name: milestones=, ": changed("milestones=(25,)", "(25,)"),
    # types
    ":9: distill.milestones=25 cannot be: it has to be a list": changed("(25,)", "25"),
    ":9: distill.milestones.full=25 cannot be: it has to be a list": changed("(25,)", "{'full': 25}"),
    ":9: distill.learning_rate='1e-4' cannot be: it has to be a number": changed(
        "(25,)", "(25,), learning_rate='1e-4'"
    ),
    ":9: distill.seq_length=True cannot be: it has to be a whole number": changed("(25,)", "(25,), seq_length=True"),
    ":9: distill.fused_loss='yes' cannot be: it has to be true or false": changed("(25,)", "(25,), fused_loss='yes'"),
    ":9: seed='7' cannot be: it has to be a whole number": changed("blend=BLEND", "blend=BLEND, seed='7'"),
    ":9: blend={'stem': 100} cannot be: it has to be a Blend": changed("blend=BLEND", "blend={'stem': 100}"),
    ":9: distill={'seed': 1} cannot be: it has to be a Distill": changed(
        "distill=Distill(milestones=(25,))", "distill={'seed': 1}"
    ),
    # the blend
    ":4: blend 'mine' has the row ('stem', 40): a row is (source, percent, provenance).": changed(
        "40, PUBLISHED", "40"
    ),
    ":4: blend 'mine' has the row ('stem', 'published', 40)": changed("40, PUBLISHED", "PUBLISHED, 40"),
    ":4: no source is called 'sten'. Did you mean 'stem'?": changed('"stem"', '"sten"'),
    ":4: the shares of blend 'mine' sum to 99 percent, not 100.": changed("40, ", "39, "),
    # entry points
    ":12: mine has no default for 'settings', and nothing else says what it is": changed(" = SETTINGS)", ")"),
    ":12: mine is given a Context": changed("ctx: Context, settings: Settings = SETTINGS", ""),
    ":13: put @entrypoint, from nemo_distill, above def mine: a recipe is started by it.": changed(
        "@entrypoint\n", "\n"
    ),
    "has no function under @entrypoint": "x = 1\n",
    ":22: @entrypoint is on mine on line 12 and other on line 22; a recipe has one.": GOOD
    + "\n\n@entrypoint\ndef other(ctx): ...\n",
    ":12: entrypoint needs 'recipe' as well.": changed("@entrypoint", "@entrypoint()"),
    # whatever else, while it is read and when it is run
    ":9: ZeroDivisionError: division by zero.": changed("(25,)", "(1 / 0,)"),
    ":15: nothing is called 'run_experimnt' here. Did you mean 'run_experiment'?": changed(
        "    run_experiment", "    run_experimnt"
    ),
    ":15: run_experiment needs 'settings' as well.": changed("(ctx, settings)", "(ctx)"),
    "neighbour.py:1: ZeroDivisionError: division by zero.": changed('"""\nfrom', '"""\nimport neighbour; from'),
}


def test_a_mistake_in_a_recipe_is_one_sentence_with_its_line_exit_2_and_nothing_written(
    nemo_run, workplace, listing, monkeypatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (workplace / "recipes/neighbour.py").write_text("1 / 0\n")
    path, failed = workplace / "recipes/odd.py", []
    for sentence, text in MISTAKES.items():
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        before = listing(workplace)
        code, out, err = nemo_run("recipes/odd.py", "--dryrun")
        if (code, out, err.count("\n")) != (2, "", 1) or sentence not in err or "nemo-run: recipes/" not in err:
            failed.append((sentence, code, out[:200], err))
        assert listing(workplace) == before
    assert not failed


def test_a_recipe_as_it_should_be_is_previewed_and_help_lists_even_what_cannot_be_read(nemo_run, workplace):
    (workplace / "recipes/odd.py").write_text(GOOD)
    code, out, err = nemo_run("recipes/odd.py", "--dryrun", "blend.name=[v3] [/bold]")
    assert (code, err) == (0, "") and "[v3] [/bold]" in out
    (workplace / "recipes/odd.py").write_text("A \0 recipe")
    (workplace / "recipes/folder.py").mkdir()
    code, out, _ = nemo_run("--help")
    assert code == 0 and "odd.py" in out and "folder.py" not in out


def test_a_fault_of_this_package_stays_a_traceback(nemo_run, workplace, monkeypatch):
    from nemo_distill import experiment

    def fault(*_, **__):
        raise KeyError("ours")

    monkeypatch.setattr(experiment, "get_scale", fault)
    (workplace / "recipes/odd.py").write_text(GOOD)
    with pytest.raises(KeyError):
        nemo_run("recipes/odd.py", "--dryrun")


@pytest.mark.parametrize("name", ["random", "datasets", "nemo_run", "typing"])
def test_a_recipe_that_bears_a_librarys_name_is_run_and_shadows_none(nemo_run, workplace, monkeypatch, name):
    monkeypatch.chdir(workplace / "recipes")
    Path(f"{name}.py").write_text(GOOD)
    code, out, _ = nemo_run(f"{name}.py", "--dryrun")
    assert code == 0 and f"{name}-debug: debug scale" in out
    assert getattr(sys.modules.get(name), "BLEND", None) is None
