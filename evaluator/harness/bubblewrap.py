"""Runs a harness in a sandbox: with no network but what it is given, few files, and limits.

    check_sandbox()                                          # ValueError, in one sentence, where there is none
    with gateway(server.url, headers=server.headers) as socket:
        subprocess.run(sandboxed(command, writable=out, readable=[], ways={40123: socket}, ...), ...)

Harnesses that are not ours run in it, all of them: some execute what a model writes on purpose, one (MATH-500's) by
the way its grader reads an expression. The sandbox is bubblewrap's: a network of its own that nothing leads out of, a
process tree that ends as one, and a file system that holds, read-only and each by its name, the interpreter, its
site-packages, this package and the data sets that are asked; beside them the evaluation's own folder, which can be
written. Never a folder for the sake of what else lies in it: no entry of `sys.path`, no parent, no checkout. /tmp and
/dev/shm are in memory and small, all else that is not named cannot be written. The environment holds what is listed.

The ways out are sockets in the file system, at whose other ends, outside, `evaluator.harness.gateway` answers; each is
a port inside (`evaluator.harness.relay`). Within it each answer is judged by itself (`evaluator.harness.inside`), so
that what it says is nobody's loss but its own. Limits of all processes together are watched from outside
(`evaluator.harness.watch`); those of each process are set here.
"""

import importlib.util
import os
import resource
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evaluator.harness import apart
from evaluator.harness.relay import TASKS

GIB = 2**30
LIMITS = {
    resource.RLIMIT_AS: 8 * GIB,
    resource.RLIMIT_FSIZE: 1 * GIB,
    resource.RLIMIT_CPU: 4 * 3_600,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 4_096,
}
"""Limits of each process: bytes of memory and of a file, seconds of CPU time, bytes of a core dump, open files."""
TMP_BYTES = 1 * GIB
"""Most bytes of /tmp and of /dev/shm, each; they lie in memory."""
COUNTED_PER_NAMESPACE = (5, 14)
"""Linux, major and minor version, since which the limit on processes counts those of a sandbox alone."""
SYSTEM = ("/usr", "/etc/ssl", "/etc/ld.so.cache", "/etc/localtime")
LINKS = ("/bin", "/sbin", "/lib", "/lib64")
"""Links into /usr on most systems, folders on some."""
PACKAGE = Path(__file__).resolve().parents[1]
HARNESSES = ("core_evals", "nemo_evaluator", "simple_evals", "lm_eval", "livecodebench", "scicode")
"""Packages that an evaluation needs, beside this one and what lies in site-packages."""


def check_sandbox(advice: str = "without a sandbox no generated code is executed.") -> None:
    """Raise ValueError, with `advice` behind the reason, where code cannot be put into a sandbox."""
    program = shutil.which("bwrap")
    if program is None:
        raise ValueError(f"the sandbox needs bubblewrap, and there is no bwrap here (apt install bubblewrap): {advice}")
    trial = [program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    trial += ["--", sys.executable, "-I", "-c", Path(apart.__file__).read_text(encoding="utf-8"), "--", "/bin/true"]
    done = subprocess.run(trial, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"bubblewrap makes no sandbox here ({done.stderr.strip()}): {advice}")


def sandboxed(
    command: Sequence[str],
    *,
    writable: Path,
    readable: Sequence[Path],
    ways: Mapping[int, Path],
    environment: Mapping[str, str],
    folder: Path,
    covered: Mapping[Path, Path] | None = None,
    tasks: int = 512,
) -> list[str]:
    """The command that runs `command` in a sandbox, in `folder` and with nothing but `environment` in its environment.

    `writable` is the one folder that it can write in, `readable` those that it can read beside the interpreter, and
    `ways` what it finds at which port: sockets of `gateway`. In the place of each file of `covered` it finds the file
    that is named there. At most so many `tasks`, processes and threads, run at a time, where Linux counts them.
    """
    relay = [sys.executable, "-P", str(PACKAGE / "harness" / "relay.py")]
    inside = [*relay, *(f"{port}={socket}" for port, socket in ways.items()), "--", *command]
    wrapped = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    for name in SYSTEM:
        wrapped += ["--ro-bind-try", name, name]
    for path in map(Path, LINKS):
        wrapped += (
            ["--symlink", str(path.readlink()), str(path)] if path.is_symlink() else ["--ro-bind-try", *[str(path)] * 2]
        )
    wrapped += ["--proc", "/proc", "--dev", "/dev"]
    for name in ("/dev/shm", "/tmp"):
        wrapped += ["--size", str(TMP_BYTES), "--tmpfs", name]
    sockets = [socket.parent for socket in ways.values()]
    for path in dict.fromkeys([*interpreter(), *packages(), *readable, *sockets]):
        wrapped += ["--ro-bind", str(path), str(path)]
    for path, instead in (covered or {}).items():
        wrapped += ["--ro-bind", str(instead), str(path)]
    wrapped += ["--bind", str(writable), str(writable), "--remount-ro", "/dev", "--remount-ro", "/"]
    wrapped += ["--chdir", str(folder)]
    for name, value in ({TASKS: str(tasks)} if _counts_tasks() else {}).items() | environment.items():
        wrapped += ["--setenv", name, value]
    return [*wrapped, "--", *inside]


def interpreter() -> list[Path]:
    """What Python is made of, beside /usr: its programs, libraries and site-packages, and a virtual environment's."""
    found: list[Path] = []
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        found += [Path(prefix, name) for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    return _outside_the_system([*found, *map(Path, site.getsitepackages())])


def packages() -> list[Path]:
    """This package and those of the harnesses, where they do not lie in site-packages."""
    found = [PACKAGE]
    for name in HARNESSES:
        if spec := importlib.util.find_spec(name):
            found += [Path(where).absolute() for where in spec.submodule_search_locations or ()]
    known = interpreter()
    return [path for path in _outside_the_system(found) if not any(path.is_relative_to(one) for one in known)]


def python_path() -> str:
    """PYTHONPATH for the inside: of its entries, those in which one of our `packages` lies; nothing else of them."""
    there = packages()
    entries = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join(str(entry) for entry in entries if any(path.parent == entry for path in there))


def _outside_the_system(paths: Iterable[Path]) -> list[Path]:
    """Those that exist and are not bound with /usr; of links what they lead to as well."""
    named = [one for path in paths if path.exists() for one in (path, path.resolve())]
    return list(dict.fromkeys(one for one in named if not any(one.is_relative_to(system) for system in SYSTEM)))


def _counts_tasks() -> bool:
    """Whether the limit on processes counts a sandbox's alone; before, it counted all that the user runs."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)) or 0)) >= COUNTED_PER_NAMESPACE


def limit() -> None:
    """Set the limits of this process and all that it starts; for `preexec_fn`."""
    for name, most in LIMITS.items():
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))
