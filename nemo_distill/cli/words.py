"""What is said to a word that is neither a recipe nor a command."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from nemo_distill.errors import nearest, slip_of

_COMPARE = "'nemo-run report RUN RUN' compares runs, 'nemo-run diff RUN RUN' what they were asked for."
_LOOK = "'nemo-run list' shows all runs, 'nemo-run status RUN' how far one is."
_START = "A run is started by its recipe: nemo-run recipes/NAME.py."
_ROOM = "'nemo-run clean' shows what need not be kept, and removes it with --delete."
CALLED = {
    **dict.fromkeys(("compare", "scores", "results"), _COMPARE),
    **dict.fromkeys(
        ("leaderboard", "pareto", "frontier"), "'nemo-run board RUNS' shows scores against tokens/s and GiB."
    ),
    **dict.fromkeys(("lists", "ls", "ps", "show", "runs", "log", "logs", "info", "watch"), _LOOK),
    **dict.fromkeys(("run", "train", "distill", "prune", "evaluate", "eval", "start", "launch", "resume"), _START),
    **dict.fromkeys(("gc", "rm", "delete", "remove", "prune-runs", "cleanup", "du"), _ROOM),
    **dict.fromkeys(("stop", "kill", "abort", "scancel"), "'nemo-run cancel RUN' cancels its jobs on a cluster."),
    **dict.fromkeys(("upload", "publish", "share"), "'nemo-run push RUN --to ORG/NAME' puts a checkpoint on the hub."),
    "export": "A run exports its milestones; 'nemo-run push RUN --to ORG/NAME' puts one on the hub.",
    **dict.fromkeys(("init", "create"), "'nemo-run new FOLDER' writes a study to start from."),
    "dryrun": "Say nemo-run recipes/NAME.py --dryrun.",
}
"""What to say to words that other tools have for commands."""


def meant(word: str, recipes: list[Path], commands: list[str]) -> str:
    """What may have been meant by a word that is neither a recipe nor a command."""
    files = list(map(str, recipes))
    if by_stem := [str(path) for path in recipes if path.stem == word.removesuffix(".py")]:
        return f"Did you mean '{by_stem[0]}'?"
    if "/" in word or word.endswith(".py"):
        near = slip_of(Path(word).stem, [path.stem for path in recipes])
        meant = [str(path) for path in recipes if path.stem == near]
        return f"Did you mean '{meant[0]}'?" if meant else nearest("", files)
    if word in CALLED and word not in commands:
        return CALLED[word]
    return nearest(word, [*files, *commands]) if slip_of(word, [*files, *commands]) else nearest(word, commands)


def sentence_of(message: str, arguments: Sequence[str]) -> str:
    """What the command line's parser says of `arguments`, as a whole sentence that names the value.

    >>> sentence_of("No such option: --dryrn (Possible options: --dryrun)", ["--dryrn"])
    "No such option: --dryrn. Did you mean '--dryrun'?"
    >>> sentence_of("Invalid value for '--margin': Input should be a valid number, unable to ...", ["--margin", "10%"])
    '--margin=10% cannot be: it has to be a number.'
    """
    if found := re.fullmatch(r"(No such option: \S+) \(Possible options: (\S+?)(?:, .*)?\)", message):
        return f"{found[1]}. Did you mean '{found[2]}'?"
    if found := re.fullmatch(r"Got unexpected extra argument\(?s?\)? \((.*)\)", message):
        return f"'{found[1]}' is more than the command takes: see --help."
    if found := re.match(r"Invalid value for '(--[\w-]+)'.*: Input should be a valid (\w+)", message):
        option, kind = found.groups()
        given = [after for one, after in itertools.pairwise(arguments) if one == option]
        given += [one.partition("=")[2] for one in arguments if one.startswith(f"{option}=")]
        return f"{option}={(given or ['...'])[-1]} cannot be: it has to be {'an' if kind == 'integer' else 'a'} {kind}."
    return message if message.endswith((".", "?", "!")) else f"{message}."
