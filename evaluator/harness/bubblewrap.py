"""Runs a harness that executes what a model writes in a sandbox: with no network but the model, few files, and limits.

    check_sandbox()                                          # ValueError, in one sentence, where there is none
    with endpoint_socket("127.0.0.1", 40123) as socket:
        subprocess.run(sandboxed(command, writable=out, readable=[datasets], socket=socket, port=40123), ...)

The sandbox is bubblewrap's: a network of its own that nothing leads out of, a process tree that ends as one, a file
system that holds the interpreter, this package and the data sets, read-only, the evaluation's own folder, and a /tmp
in memory. The environment is emptied first, so that no key is in reach. The one way out is a socket in the file
system, at whose other end, outside, the served model is: `evaluator.harness.relay` makes it the endpoint's port inside.

What stays possible: code can spoil the folder of its own evaluation, in which the harness keeps its answers.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluator.harness.relay import serve_in_thread

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
SYSTEM = ("/usr", "/etc/ssl", "/etc/ld.so.cache", "/etc/localtime")
LINKS = ("/bin", "/sbin", "/lib", "/lib64")
"""Links into /usr on most systems, folders on some."""
PACKAGE = Path(__file__).resolve().parents[1]


def check_sandbox() -> None:
    """Raise ValueError where code cannot be put into a sandbox."""
    advice = "without a sandbox no generated code is executed."
    program = shutil.which("bwrap")
    if program is None:
        raise ValueError(f"the sandbox needs bubblewrap, and there is no bwrap here (apt install bubblewrap): {advice}")
    trial = [program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]
    done = subprocess.run(trial, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"bubblewrap makes no sandbox here ({done.stderr.strip()}): {advice}")


def sandboxed(
    command: Sequence[str],
    *,
    writable: Path,
    readable: Sequence[Path],
    socket: Path,
    port: int,
    environment: Mapping[str, str],
    folder: Path,
    covered: Mapping[Path, Path] | None = None,
) -> list[str]:
    """The command that runs `command` in a sandbox, in `folder` and with nothing but `environment` in its environment.

    `writable` is the one folder that it can write in, `readable` those that it can read beside the interpreter, and
    `socket` where the endpoint is, which `command` finds at `port`. In the place of each file of `covered` it finds the
    file that is named there.
    """
    inside = [sys.executable, str(PACKAGE / "harness" / "relay.py"), str(port), str(socket), "--", *command]
    wrapped = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    for name in SYSTEM:
        wrapped += ["--ro-bind-try", name, name]
    for path in map(Path, LINKS):
        wrapped += (
            ["--symlink", str(path.readlink()), str(path)] if path.is_symlink() else ["--ro-bind-try", *[str(path)] * 2]
        )
    wrapped += ["--proc", "/proc", "--dev", "/dev", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    packages = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    for path in dict.fromkeys(
        [Path(sys.prefix), Path(sys.base_prefix), *packages, PACKAGE.parent, *readable, socket.parent]
    ):
        wrapped += ["--ro-bind", str(path), str(path)]
    for path, instead in (covered or {}).items():
        wrapped += ["--ro-bind", str(instead), str(path)]
    wrapped += ["--bind", str(writable), str(writable), "--chdir", str(folder)]
    for name, value in environment.items():
        wrapped += ["--setenv", name, value]
    return [*wrapped, "--", *inside]


def limit() -> None:
    """Set the limits of this process and all that it starts; for `preexec_fn`."""
    for name, most in LIMITS.items():
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


@contextmanager
def endpoint_socket(host: str, port: int) -> Iterator[Path]:
    """A socket in a folder of its own that leads to `host` and `port` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="endpoint-") as folder:  # short: a socket's path has at most 107 bytes
        path = Path(folder) / "socket"
        end = serve_in_thread(path, host, port)
        try:
            yield path
        finally:
            end()
