"""Captures what a terminal shows, from real ones of 80 and 40 columns and 24 lines, into docs/reference/terminal.md;
what the demo says at its end also into README.md.

    python benchmarks/terminal.py /home/me/study

Makes the demo in that folder in a terminal of tmux's (about four minutes on two cores), and a few more
commands on what it made. A second terminal, of 40 columns, follows the run beside it. Needs tmux.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "terminal.md"
README = ROOT / "README.md"
RECIPE = "recipes/distill_v1v3.py"
LIMIT_SECONDS = 1800
PROMPT = "$ "
HEAD = """\
# What a terminal shows

Captured from real terminals of 24 lines by `python benchmarks/terminal.py FOLDER`; colours are left out.
"""
Capture = tuple[str, str, str]
"""Title, sentence, what was shown."""


class Terminal:
    """A terminal of so many columns and 24 lines, with a shell in `folder`."""

    def __init__(self, columns: int, folder: Path):
        self.folder, self.socket = folder, f"captures-{os.getpid()}-{columns}"
        options = folder / ".tmux.conf"
        options.write_text("set -g status off\nset -g history-limit 5000\n")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = ["env", f"PS1={PROMPT}", f"PATH={path}", "LANG=C.UTF-8", "bash", "--norc", "--noprofile"]
        self._tmux("-f", str(options), "new-session", "-d", "-x", str(columns), "-y", "24", "-c", str(folder), *shell)

    def type(self, command: str) -> None:
        """Give the shell a command, on a screen that is empty."""
        self._tmux("send-keys", "clear", "Enter")
        time.sleep(0.5)
        self._tmux("clear-history")
        self._tmux("send-keys", "-l", command)
        self._tmux("send-keys", "Enter")
        self.wait_for(lambda shown: command.split()[0] in shown)

    def screen(self) -> str:
        """What it shows now."""
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def everything(self) -> str:
        """What it has shown since the command was given."""
        return self._tmux("capture-pane", "-p", "-S", "-").rstrip("\n")

    def wait_for(self, condition: Callable[[str], object]) -> str:
        """The screen as soon as it is so."""
        until = time.monotonic() + LIMIT_SECONDS
        while not condition(shown := self.screen()):
            if time.monotonic() > until:
                raise TimeoutError(shown)
            time.sleep(0.2)
        return shown

    def to_the_end(self) -> str:
        """What the command has shown, once it has ended."""
        self.wait_for(ended)
        return without_prompt(self.everything())

    def close(self) -> None:
        """End it and what runs in it."""
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-L", self.socket, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def busy(shown: str) -> bool:
    """Whether a segment trains, far enough to have a loss, while a checkpoint is evaluated."""
    training = re.search(r"^distill-0.[36]\S* +running", shown, re.MULTILINE)
    evaluated = re.search(r"^evaluate-\S+ +running", shown, re.MULTILINE)
    return bool(training and evaluated and "loss" in shown and "left" in shown.splitlines()[-1])


def without_prompt(shown: str) -> str:
    """What stands before the prompt that a command leaves."""
    return shown.removesuffix(PROMPT.strip()).rstrip()


def ended(shown: str) -> bool:
    """Whether the shell waits for a command."""
    return shown.rpartition("\n")[2] == PROMPT.strip()


def dry_run(wide: Terminal, narrow: Terminal) -> list[Capture]:
    """What a run on a cluster would be, where nothing has been filled in."""
    wide.type(f"nemo-run {RECIPE} -e slurm --dryrun")
    first = "\n".join(wide.to_the_end().splitlines()[:24])
    return [("A dry run begins", "What has to be filled in, and what it takes; the first 24 lines.", first)]


def run(wide: Terminal, narrow: Terminal) -> list[Capture]:
    """The demo, from two terminals."""
    wide.type(f"nemo-run {RECIPE}")
    wide.wait_for(lambda shown: "running" in shown)
    narrow.type("nemo-run status --watch")
    live = wide.wait_for(busy)
    beside = narrow.wait_for(lambda shown: "running" in shown)
    wide.to_the_end()
    narrow.wait_for(ended)
    return [
        ("A run goes on", "80 columns, `make demo`'s command.", live),
        ("The same run, 40 columns", "`nemo-run status --watch` in another terminal.", beside),
    ]


def end(wide: Terminal, narrow: Terminal) -> list[Capture]:
    """How a run ends, here one of which all was done but the report."""
    shutil.rmtree(wide.folder / "runs" / "report")
    wide.type(f"nemo-run {RECIPE}")
    wide.to_the_end()
    shown = without_prompt(wide.screen())
    last = shown[shown.index("19 done: ") :]
    return [("It ends", "All had been done but the report; the last lines.", last)]


def failure(wide: Terminal, narrow: Terminal) -> list[Capture]:
    """A step that fails for a setting."""
    wide.type(f"nemo-run {RECIPE} --until distill-0.1M distill.learning_rate=1e10")
    shown = wide.to_the_end()
    last = shown[shown.index("distill-0.1M failed") :]
    return [("A step fails", "At a learning rate at which nothing is learnt; what is said after the table.", last)]


def manual(wide: Terminal, narrow: Terminal) -> list[Capture]:
    """Settings of one group."""
    narrow.type(f"nemo-run {RECIPE} --help layout")
    return [("What can be set, 40 columns", f"`nemo-run {RECIPE} --help layout`.", narrow.to_the_end())]


PARTS = {one.__name__: one for one in (dry_run, run, end, failure, manual)}
"""What is captured, in this order."""


def main() -> None:
    """Capture, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to; a new one, or one that holds the finished demo")
    parser.add_argument("--only", choices=PARTS, help="capture this part anew, and leave the page's others")
    arguments = parser.parse_args()
    folder, chosen = arguments.folder.resolve(), [arguments.only] if arguments.only else list(PARTS)
    shutil.copytree(
        ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    terminals = Terminal(80, folder), Terminal(40, folder)
    try:
        found = [capture for name in chosen for capture in PARTS[name](*terminals)]
    finally:
        for terminal in terminals:
            terminal.close()
    before = PAGE.read_text(encoding="utf-8").split("\n## ")[1:] if arguments.only else []
    sections = {section.partition("\n")[0]: section.rstrip() for section in before}
    for title, sentence, shown in found:
        lines = (line.rstrip() for line in shown.splitlines())
        sections[title] = "\n".join([title, "", sentence, "", "```text", *lines, "```"])
    PAGE.write_text(HEAD + "".join(f"\n## {section}\n" for section in sections.values()), encoding="utf-8")
    README.write_text(with_end(README.read_text(encoding="utf-8"), sections["It ends"]), encoding="utf-8")


def with_end(readme: str, ending: str) -> str:
    """README with what the run says at its end, from its first sentence to the share of the gap."""
    shown = ending[ending.index("Train to ") : ending.index("\nReport: ")].splitlines()
    block = "".join(f"     {line}".rstrip() + "\n" for line in shown)
    return re.sub(r"(?m)^     Train to .*\n(?:     .*\n|\n(?=     ))*", lambda _: block, readme, count=1)


if __name__ == "__main__":
    main()
