"""Runs what comes of one answer by itself, within the sandbox: it can change nothing that outlives it.

    call_apart(grade, "1/2", "0.5", cpu_seconds=20, seconds=60)      # what it returns, as plain JSON data
    run_apart(["python", "program.py"], capture_output=True)         # as `subprocess.run`

A harness takes, executes and judges all answers as one user, in one folder. So that an answer can be nobody's loss but
its own, what it says runs in namespaces of its own: every file is read-only but for a new /tmp and /dev/shm, there is
no network, no way out of the sandbox, no process but its own, no open file, and no right that could change this. What
comes of it is read from a pipe and is JSON: a pickle would be run by whoever reads it. Where a process cannot be shut
in, with no process left say, nothing is judged: an answer that was not looked at is no wrong one, and the evaluation
ends with the sentence that `NOTE` keeps. Standard library only.
"""

import contextlib
import ctypes
import json
import os
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

ENDPOINT = "endpoint-"
"""Beginning of the names of folders that hold a way out of the sandbox (`evaluator.harness.gateway`)."""
NOTE = "NEMO_DISTILL_NOT_JUDGED"
"""Environment variable with the file for the sentence why an answer could not be judged."""
TMP = ("/tmp", "/dev/shm")
TMP_BYTES = 2**28
"""Most bytes of /tmp and of /dev/shm, each; they lie in memory."""
RESULT_BYTES = 2**22
"""Most bytes of a result."""
START_SECONDS = 120.0
"""What a process has to be shut in, before the seconds of its answer begin: a machine may be busy with others."""
_USER, _PROCESSES, _MOUNTS, _NETWORK, _IPC, _NAMES = (
    *(0x1000_0000, 0x2000_0000, 0x0002_0000, 0x4000_0000),
    *(0x0800_0000, 0x0400_0000),
)
"""Kinds of namespaces, as Linux numbers them."""
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16_384, 1 << 18
_MOUNTED = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
"""Options of a mount that have to stay as they are when it is made read-only."""
_DIES_WITH_PARENT, _DROP_FROM_BOUNDS, _NO_NEW_PRIVILEGES = 1, 24, 38
_CAPABILITIES = 64
_SHUT_IN = b"\x06"
"""What comes through the pipe before anything that an answer says is run."""
_libc = ctypes.CDLL(None, use_errno=True)


class NotShutIn(BaseException):
    """A process could not be shut in; no harness is to take that for a wrong answer."""


def call_apart(function: Callable, *arguments: Any, cpu_seconds: int | None = None, seconds: float) -> Any:
    """What `function` returns of `arguments`, as plain JSON data; None where it raises or nothing comes in time.

    It may take `cpu_seconds` of CPU time, None: as many as this process, and `seconds` on the clock once it is shut in.
    This process may have one thread only. Raises `NotShutIn`.
    """
    try:
        reading, writing = os.pipe()
        process = os.fork()
    except OSError as error:
        raise _not_shut_in(error) from None
    if not process:
        _answer(function, arguments, writing, cpu_seconds)
    os.close(writing)
    try:
        said = _all_of(reading, seconds)
    finally:
        os.close(reading)
        os.kill(process, signal.SIGKILL)  # what it started ends with it
        os.waitpid(process, 0)
    if not said.startswith(_SHUT_IN):
        raise _not_shut_in(said.decode(errors="replace"))
    try:
        return json.loads(said.removeprefix(_SHUT_IN))
    except (ValueError, RecursionError):
        return None


def run_apart(
    command: Sequence[str],
    *,
    input: str | bytes | None = None,
    timeout: float | None = None,
    capture_output: bool = False,
    check: bool = False,
    **settings: Any,
) -> subprocess.CompletedProcess:
    """As `subprocess.run`, of a command that is shut in, in /tmp; `timeout` begins then. Raises `NotShutIn` as well."""
    settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if capture_output else {}
    settings |= {} if input is None else {"stdin": subprocess.PIPE}
    try:
        reading, writing = os.pipe()
        words = [sys.executable, "-I", __file__, str(writing), "--", *command]
        try:
            process = subprocess.Popen(words, pass_fds=[writing], **settings)
        finally:
            os.close(writing)
    except OSError as error:
        raise _not_shut_in(error) from None
    with process:
        try:
            said = _all_of(reading, START_SECONDS)
            if said != _SHUT_IN:
                raise _not_shut_in(said.removeprefix(_SHUT_IN).decode(errors="replace"))
            out, wrong = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()  # what it started ends with it
            raise
        finally:
            os.close(reading)
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output=out, stderr=wrong)
    return subprocess.CompletedProcess(process.args, process.returncode, out, wrong)


def serve(function: Callable, answers: TextIO, *, cpu_seconds: int, seconds: float) -> None:
    """Write to `answers`, for every line of standard input, a list of arguments, a list with what `call_apart` gives,
    or the sentence where that raises `NotShutIn`."""
    for line in sys.stdin:
        found: list | str
        try:
            found = [call_apart(function, *json.loads(line), cpu_seconds=cpu_seconds, seconds=seconds)]
        except NotShutIn as error:
            found = str(error)
        print(json.dumps(found), file=answers, flush=True)


def _not_shut_in(why: object) -> NotShutIn:
    """The error to be raised; what it says is kept for whoever reads what came of the evaluation."""
    why = why or "a process that is to be shut in ended before it was"
    sentence = f"an answer cannot be judged by itself, and so none is: {why}."
    if note := os.environ.get(NOTE):
        with contextlib.suppress(OSError), open(note, "w", encoding="utf-8") as file:
            file.write(sentence)
    return NotShutIn(sentence)


def shut_in(keep: Sequence[int] = (), *, ends: bool = False) -> None:
    """Shut this process in; of its open files it keeps `keep`. Raises OSError.

    The process that goes on is another, a child's child: this one ends as that one does, or, with `ends`, well.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", _USER | _PROCESSES | _MOUNTS | _NETWORK | _IPC | _NAMES)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _go_on_in_child(ends=ends)
    _call("prctl", _DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    _make_read_only()
    _drop_rights()
    kept = sorted({0, 1, 2, *keep})
    for low, high in zip(kept, [*kept[1:], resource.getrlimit(resource.RLIMIT_NOFILE)[0]], strict=True):
        os.closerange(low + 1, high)
    _go_on_in_child(ends=ends)  # the first process of a namespace is spared by signals


def _answer(function: Callable, arguments: Sequence[Any], writing: int, cpu_seconds: int | None) -> None:
    """Call the function, shut in, and write what it returns; ends this process."""
    try:
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        try:
            shut_in([writing], ends=True)
        except OSError as error:
            os.write(writing, str(error).encode())
            return
        os.write(writing, _SHUT_IN)
        if cpu_seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        said = json.dumps(function(*arguments), default=_plain).encode()
        while said:
            said = said[os.write(writing, said) :]
    finally:
        os._exit(0)


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's own; of anything else whether it is true."""
    return value.item(0) if hasattr(value, "item") else bool(value)


def _all_of(reading: int, seconds: float) -> bytes:
    """What comes through the pipe until it is closed or `seconds` are over, counted from the first byte."""
    said, until = b"", time.monotonic() + START_SECONDS
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while len(said) <= RESULT_BYTES and (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            more = os.read(reading, 2**16)
            if not more:
                return said
            until = until if said else time.monotonic() + seconds
            said += more
    return said[:1] if said.startswith(_SHUT_IN) else said


def _go_on_in_child(*, ends: bool) -> None:
    """Go on in a child; this process waits for it and ends as it does, or, with `ends`, well."""
    child = os.fork()
    if not child:
        return
    status = 0
    with contextlib.suppress(OSError):
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # or a pipe would never be seen to end
        while True:
            ended, status = os.wait()
            if ended == child:
                break
    code = os.waitstatus_to_exitcode(status)
    os._exit(0 if ends else code if code >= 0 else 128 - code)


def _make_read_only() -> None:
    """Make all that is mounted read-only, and hide the ways out and the processes."""
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split(" ") for line in file]
    points = {_unescaped(fields[4]): fields[5].split(",") for fields in mounts}
    seen = {point: options for point, options in points.items() if os.path.lexists(point)}
    for point, options in seen.items():
        if "rw" in options:
            _remount_read_only(point, options)
    private = _MOUNTED["nosuid"] | _MOUNTED["nodev"]
    for temporary in filter(os.path.isdir, TMP):
        below = {point: os.open(point, os.O_PATH) for point in seen if point.startswith(f"{temporary}/")}
        size = f"size={TMP_BYTES},mode=1777".encode()
        _call("mount", b"tmpfs", temporary.encode(), b"tmpfs", private, size)
        for point, number in below.items():
            if not _is_way_out(point):
                _mount_again(number, point, seen[point])
            os.close(number)
    private |= _MOUNTED["noexec"]
    for point in filter(_is_way_out, seen):
        if os.path.isdir(point):
            _call("mount", b"tmpfs", os.fsencode(point), b"tmpfs", private | _READ_ONLY, None)
    try:
        _call("mount", b"proc", b"/proc", b"proc", private, None)
    except PermissionError:  # where parts of the sandbox's own are covered, as root's are, there is none
        _call("mount", b"tmpfs", b"/proc", b"tmpfs", private | _READ_ONLY, None)


def _is_way_out(point: str) -> bool:
    return os.path.basename(point).startswith(ENDPOINT)


def _mount_again(number: int, point: str, options: Sequence[str]) -> None:
    """Mount what was opened as `number`, and what is below, at `point`, which something has hidden."""
    if stat.S_ISDIR(os.fstat(number).st_mode):
        os.makedirs(point, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(point), exist_ok=True)
        with open(point, "wb"):
            pass
    _call("mount", f"/proc/self/fd/{number}".encode(), os.fsencode(point), None, _BIND | _RECURSIVE, None)
    _remount_read_only(point, options)


def _remount_read_only(point: str, options: Sequence[str]) -> None:
    kept = sum(_MOUNTED.get(option, 0) for option in options)
    _call("mount", None, os.fsencode(point), None, _REMOUNT | _BIND | _READ_ONLY | kept, None)


def _drop_rights() -> None:
    """Give up every right over these namespaces, for good."""
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for capability in range(_CAPABILITIES):
        with contextlib.suppress(OSError):  # the last ones are unknown
            _call("prctl", _DROP_FROM_BOUNDS, capability, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(0x2008_0522, 0), (ctypes.c_uint32 * 6)()
    _call("capset", header, none)


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} ({name})")


def main() -> None:
    """Runs a command, shut in: `apart.py [NUMBER] -- COMMAND`. The file NUMBER is told that it was, or why not."""
    at = sys.argv.index("--")
    tell, command = [int(number) for number in sys.argv[1:at]], sys.argv[at + 1 :]
    try:
        shut_in(tell)
        os.chdir("/tmp")
        for number in tell:
            os.set_inheritable(number, False)  # the command cannot write there
            os.write(number, _SHUT_IN)
        os.execvp(command[0], command)
    except OSError as error:
        for number in tell:
            os.write(number, str(error).encode())
        sys.exit(f"no process can be shut in by itself here: {error}.")


if __name__ == "__main__":
    main()
