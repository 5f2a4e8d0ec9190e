"""Steps forked from a process that has imported their framework, so that a run imports it once.

    with serving(["nemo_distill.backends:prepared"], environment) as variables:       # by the command, or for several
        subprocess.run([sys.executable, "-m", "nemo_distill.step", spec], env=environment | variables)

A step's module names in `IMPORTS` what takes seconds to import, as `module` or as `module:function to call`. The server
imports it once and waits. The process of a step asks it for a fork, hands over its standard streams, arguments,
environment, folder and umask, passes signals on, and ends as the fork ends; when it is killed, so is the fork. Whoever
started it sees one process that behaves as if it were the step.

A fork is to be what a fresh process would be. Where that cannot be had, the server says why, and the step runs in its
own process, to the same results: on a GPU, with threads or a process group in the server, and under another
environment. A fork is a session of its own, its random state is as new as a fresh process's, and `__main__` is
`nemo_distill.step`, which a process that multiprocessing spawns imports again. Of several ranks each is a fork, of the
command's server or of one that their torchrun starts.
"""

import contextlib
import glob
import importlib
import json
import os
import pkgutil
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nemo_distill.run import ending, secrets
from nemo_distill.run.garbage import uncollected

VARIABLE = "NEMO_DISTILL_FORK_SERVER"
"""Environment variable with the server's socket, for the processes of steps."""
PER_PROCESS = frozenset({
    *(VARIABLE, ending.VARIABLE, secrets.NAMES, "_", "OLDPWD", "PATH", "PWD", "SHLVL", "PYTEST_CURRENT_TEST"),
    *("PET_LOG_DIR", "TORCHELASTIC_ERROR_FILE", "TORCHX_RANK0_HOST"),
    # Which rank it is of which torchrun, and where the ranks meet.
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "GLOO_SOCKET_IFNAME"),
    *("NCCL_SOCKET_IFNAME", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCHELASTIC_MAX_RESTARTS"),
    *("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_SIGNALS_TO_HANDLE"),
    "TORCHELASTIC_USE_AGENT_STORE",
})  # fmt: skip
"""Environment variables that no import reads, or only to say less: a fork has its own; all others have to be the
server's."""
ALLOCATOR = "JE_ARROW_MALLOC_CONF"
"""Environment variable with options of the allocator in pyarrow, which starts a thread when it is imported."""
NO_THREAD = "background_thread:false"
STEP = ["-m", "nemo_distill.step"]
"""What Python is started with to run the step of the spec that follows."""
RELAYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
STREAMS = (0, 1, 2)
LENGTH = struct.Struct("!I")
LOOK_SECONDS = 0.05
"""Time between two looks whether a fork has ended."""
REQUEST_SECONDS = 10.0
"""Longest time a process may take to say what it wants."""
END_SECONDS = 5.0
"""Longest time that a command waits for its server to end."""


@dataclass(frozen=True)
class Start:
    """What the process of a step was started with."""

    argv: list[str]
    """Its `sys.argv`."""
    orig_argv: list[str]
    """Its `sys.orig_argv`."""
    path: list[str]
    """Its `sys.path`: where modules are found."""
    executable: str
    """Its Python."""
    folder: str
    """Its current folder."""
    umask: int
    """Its umask."""
    environment: dict[str, str]
    """Its environment variables."""

    @classmethod
    def here(cls) -> "Start":
        """What this process was started with."""
        umask = os.umask(0)
        os.umask(umask)
        return cls(
            argv=list(sys.argv),
            orig_argv=list(sys.orig_argv),
            path=list(sys.path),
            executable=sys.executable,
            folder=os.getcwd(),
            umask=umask,
            environment=dict(os.environ),
        )


# -- the command's side


@contextlib.contextmanager
def serving(imports: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None) -> Iterator[dict]:
    """Within the block a server that has imported `imports` forks steps; gives the variables by which they find it.

    `environment` is what the steps are started with. The server writes to `log`. With nothing to import, or on a
    machine with a GPU, there is no server, and no variable.
    """
    if not imports or _gpus():
        yield {}
        return
    folder = Path(tempfile.mkdtemp(prefix="nemo-distill-"))
    path = folder / "socket"
    try:
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(str(path))
        except OSError:  # longer than an address may be
            listening.close()
            yield {}
            return
        listening.listen(64)
        with contextlib.ExitStack() as stack:
            output: int | BinaryIO = subprocess.DEVNULL
            if log:
                log.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(open(log, "ab"))
            server = subprocess.Popen(
                [sys.executable, "-u", *STEP, "--serve", str(listening.fileno()), *imports],
                env={ALLOCATOR: NO_THREAD, **environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[listening.fileno()],
            )
            listening.close()
            try:
                yield {VARIABLE: str(path)}
            finally:
                assert server.stdin
                server.stdin.close()  # it ends by itself once its forks have
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(END_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gpus() -> list[str]:
    return glob.glob("/dev/nvidia[0-9]*")


# -- the side of a step's process


def run_step(arguments: list[str]) -> int:
    """Run the step of the `spec.json` given first, and those after it (`run.process`), in a fork where that can be had;
    the exit code."""
    from nemo_distill.errors import UserError
    from nemo_distill.run import process
    from nemo_distill.run.step import Spec

    path = os.environ.pop(VARIABLE, None)
    if not path:
        return process.main(arguments)
    try:
        spec = Spec.load(Path(arguments[0]))
    except UserError:
        return process.main(arguments)  # which says why
    if spec.done or not imports_of(spec.module):
        return process.main(arguments)
    code, refusal = _run_forked(path, spec.folder)
    return process.main(arguments, not_forked=refusal) if code is None else code


def serving_ranks(step: Sequence[str], count: int) -> contextlib.AbstractContextManager[dict]:
    """A server for `count` processes of this machine, each Python's `step`, in this process's environment; none where
    there is one already, or none is to be had."""
    names: tuple[str, ...] = ()
    if count > 1 and VARIABLE not in os.environ and list(step[:2]) == STEP:
        from nemo_distill.errors import UserError
        from nemo_distill.run.step import Spec

        with contextlib.suppress(UserError):  # the ranks say why
            names = imports_of(Spec.load(Path(step[2])).module)
    return serving(names, os.environ)


def imports_of(module: str) -> tuple[str, ...]:
    """What the step's module wants imported, read from its source."""
    from nemo_distill.run.step import module_constant

    return module_constant(module, "IMPORTS") or ()


def _run_forked(path: str, folder: Path) -> tuple[int | None, str]:
    """The exit code of the step as a fork, or None and the reason why it was not forked."""
    with socket.socket(socket.AF_UNIX) as server:
        try:
            for stream in STREAMS:
                os.fstat(stream)
            server.connect(path)
            _send(server, vars(Start.here()), STREAMS)
            answer = _receive(server)
        except OSError as error:
            return None, f"no fork could be had ({error})."
        if answer is None:
            return None, "the process that steps are forked from has ended."
        if "refused" in answer:
            return None, answer["refused"]
        fork = answer["pid"]
        for number in RELAYED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: _signal_group(fork, number))
        try:
            ended = _receive(server)
        except OSError:
            ended = None
        return (_end_as(ended["status"]) if ended else _code_of_orphan(fork, folder)), ""


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _end_as(status: int) -> int:
    """The exit code in a wait status; where a signal ended the fork, it ends this process too."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the fork has left its own
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _code_of_orphan(fork: int, folder: Path) -> int:
    """Wait for a fork whose server has died; only its mark can say how it ended, which of several ranks the first
    makes, last of all: another's failure has ended that one too."""
    from nemo_distill.errors import EXIT_FAILED
    from nemo_distill.run.step import is_done

    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(fork, 0)
            time.sleep(LOOK_SECONDS)
    return 0 if is_done(folder) or os.environ.get("RANK", "0") != "0" else EXIT_FAILED


# -- the server's side


def serve(arguments: list[str]) -> int:
    """Import, then fork whoever asks, until the command that started this process has ended and all forks have.

    `arguments` are the listening socket's number and what to import. Returns in forks, with the step's exit code.
    """
    start = Start.here()
    if start.environment.get(ALLOCATOR) == NO_THREAD:  # set for us, and read when pyarrow is imported
        del start.environment[ALLOCATOR]
    with socket.socket(fileno=int(arguments[0])) as listening:
        refusal = _import(arguments[1:])
        if ALLOCATOR not in start.environment:
            del os.environ[ALLOCATOR]
        forked = _fork_on_request(listening, start, refusal)
    if forked is None:
        os._exit(0)  # what the imports want done at exit is for those who used them
    from nemo_distill.run import process

    return process.main(forked.argv[1:], forked_from=os.getppid())


def _import(names: Sequence[str]) -> str | None:
    """Import modules and call functions; returns why nothing can be forked after that, if so."""
    from nemo_distill.run import process

    began = time.monotonic()
    process.start_logging()  # before what it imports logs, as in a step's own process
    try:
        with uncollected():  # and pages that no collection touches stay shared
            for name in names:
                found = pkgutil.resolve_name(name) if ":" in name else importlib.import_module(name)
                if callable(found):
                    found()
    except Exception as error:
        traceback.print_exc()
        return f"{name} cannot be imported ahead ({type(error).__name__}: {error})."
    print(f"imported ahead in {time.monotonic() - began:.1f} s: {', '.join(names)}", flush=True)
    return None


def _fork_on_request(listening: socket.socket, start: Start, refusal: str | None) -> Start | None:
    """Serve requests until there is nobody left; in a fork, returns what it was started with."""
    forks: dict[int, socket.socket] = {}
    command = sys.stdin.fileno()  # closed when the command has ended
    serving = True
    while serving or forks:
        watched = [*([listening, command] if serving else []), *forks.values()]
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS if forks else None)
        for pid, connection in list(forks.items()):
            if connection in ready and not _alive(connection):
                _signal_group(pid, signal.SIGKILL)
            if (ended := os.waitpid(pid, os.WNOHANG)) != (0, 0):
                del forks[pid]
                with contextlib.suppress(OSError):
                    _send(connection, {"status": ended[1]})
                connection.close()
        if listening in ready:
            connection, _ = listening.accept()
            if (asked := _read_request(connection)) is None:
                connection.close()
                continue
            wanted, streams = asked
            why = refusal or _why_not(start, wanted)
            if why is None:
                sys.stdout.flush()
                sys.stderr.flush()
                pid = os.fork()
                if pid == 0:
                    for other in (connection, *forks.values()):
                        other.close()
                    _become(wanted, streams, start)
                    return wanted
                forks[pid] = connection
                with contextlib.suppress(OSError):
                    _send(connection, {"pid": pid})
            else:
                with contextlib.suppress(OSError):
                    _send(connection, {"refused": why})
                connection.close()
            for stream in streams:
                os.close(stream)
        serving = serving and command not in ready
    return None


def _read_request(connection: socket.socket) -> tuple[Start, list[int]] | None:
    """What the process at the other end was started with and its streams; None when it has gone meanwhile."""
    connection.settimeout(REQUEST_SECONDS)
    streams: list[int] = []
    try:
        header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, len(STREAMS))
        text = _exactly(connection, LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else None
    except OSError:
        text = None
    connection.settimeout(None)
    if text and len(streams) == len(STREAMS) and _alive(connection):
        return Start(**json.loads(text)), streams
    for stream in streams:
        os.close(stream)
    return None


def _alive(connection: socket.socket) -> bool:
    """Whether the process at the other end is still there."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _why_not(start: Start, wanted: Start) -> str | None:
    """Why a fork of this process would not be what a fresh process is, or None."""
    threads = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    if len(threads) > 1:
        return f"what was imported has left threads behind ({', '.join(threads[1:])})."
    torch = sys.modules.get("torch")
    if _gpus() or (torch and (torch.cuda.is_initialized() or torch.cuda.is_available())):
        return "there is a GPU."
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        return "what was imported has left a process group behind."
    if _python(start) != _python(wanted):
        return "its sys.executable is another than that of the process to fork."
    if start.path != wanted.path:
        return "its sys.path is another than that of the process to fork."
    ours, theirs = (
        {name: value for name, value in one.environment.items() if name not in PER_PROCESS} for one in (start, wanted)
    )
    if ours != theirs:
        differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        return f"its environment differs from that of the process to fork in {', '.join(differing)}."
    return None


def _python(start: Start) -> tuple[str, str]:
    """The Python, under whichever of its names it was started (`python`, `python3`), and the folder that it is in."""
    return os.path.realpath(start.executable), os.path.dirname(start.executable)


def _become(wanted: Start, streams: list[int], start: Start) -> None:
    """Make this process, just forked, what a fresh one would be that was started that way."""
    os.setsid()
    for number, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(wanted.folder)
    os.umask(wanted.umask)
    for name in PER_PROCESS:  # what imports have set stays
        os.environ.pop(name, None)
        if name in wanted.environment:
            os.environ[name] = wanted.environment[name]
    sys.argv, sys.orig_argv, sys.executable = list(wanted.argv), list(wanted.orig_argv), wanted.executable
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()


# -- messages


def _send(connection: socket.socket, message: dict, streams: Sequence[int] = ()) -> None:
    text = json.dumps(message).encode()
    socket.send_fds(connection, [LENGTH.pack(len(text))], list(streams))
    connection.sendall(text)


def _receive(connection: socket.socket) -> dict | None:
    """The next message; None when the other end has gone."""
    header = _exactly(connection, LENGTH.size)
    text = header and _exactly(connection, LENGTH.unpack(header)[0])
    return json.loads(text) if text else None


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    """`count` bytes, or None when the other end has gone."""
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return parts
