"""What is copied to a log is starred on the way, however it arrives, and all else is copied to the byte."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.run import secrets
from nemo_distill.run.starred import COPIER, copier, redirected_output

VALUE = "correct-horse-battery"
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAAAAAAAAAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """What a log holds after chunks were written, each with a pause behind it."""
    monkeypatch.setenv("ANY_NAME", VALUE)
    monkeypatch.setenv(secrets.NAMES, "OTHER,ANY_NAME")

    def copy(*chunks: bytes, pause: float = 0.25) -> bytes:
        log = tmp_path / "log.txt"
        process = copier(log)
        assert process.stdin
        for chunk in chunks:
            process.stdin.write(chunk)
            process.stdin.flush()
            time.sleep(pause if chunk is not chunks[-1] else 0)
        process.stdin.close()
        assert process.wait(30) == 0
        text = log.read_bytes()
        log.unlink()
        return text

    return copy


def test_a_secret_is_starred_in_two_halves_over_lines_and_beside_bytes_that_are_no_text(copied):
    assert copied(b"login cor", b"rect-horse-", b"battery\n\xff\xc3") == b"login ***\n\xff\xc3"
    assert copied(b"a\n" + KEY[:60], KEY[60:80], KEY[80:] + b"b\n") == b"a\n***b\n"
    assert copied(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA") == b"***"


def test_a_prompt_and_a_progress_bar_do_not_wait_for_the_end_of_their_line(tmp_path):
    log = tmp_path / "log.txt"
    with redirected_output(log):
        os.write(1, b"1%\r2%\r 3% of cor")
        ends = time.monotonic() + 30
        while not log.read_bytes().endswith(b" 3% of cor"):
            assert time.monotonic() < ends
            time.sleep(0.02)


def test_neither_a_full_disk_nor_a_reader_that_is_gone_ends_who_writes(tmp_path):
    source, sink = os.pipe()
    os.close(source)
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-I", "-S", str(COPIER), str(full.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, pass_fds=[full.fileno()])
    os.close(sink)
    _, error = process.communicate(b"line\n" * 100_000, timeout=60)
    assert process.returncode == 0 and not error


def test_short_and_plain_values_are_left_alone_and_so_are_paths(monkeypatch):
    plain = {"A": "INFO", "B": "1048576", "C": "/shared/you/hf", "D": "true", "TOKEN_X": "none", "MAX_TOKENS": "131072"}
    with secrets.scope():
        secrets.remember({**plain, "MY_PASSWORD": "k7q2", "MY_PIN_SECRET": "271828"})
        text = "INFO 1048576 /shared/you/hf true none 131072 k7q2x"
        assert secrets.star_values(f"{text} k7q2, 271828.") == f"{text} ***, ***."


def test_settings_may_say_what_a_variable_says_unless_that_is_called_a_secret(monkeypatch):
    with secrets.scope():
        secrets.remember({"WANDB_PROJECT": "nemo-distill", "MY_AUTH": "correct horse"})
        assert list(secrets.secrets_within({"a": "nemo-distill-2", "b": ["correct horse"]})) == ["b"]


def test_logins_that_libraries_keep_in_files_are_known(tmp_path, monkeypatch):
    for name in ("HF_HOME", "HF_TOKEN_PATH", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, ".netrc").write_text("machine x\n  login me\n  password 0123abcdef\n")
    assert secrets.star_values("logged in with 0123abcdef.") == "logged in with ***."


def test_a_log_is_whole_when_the_writer_is_done_though_a_child_goes_on(tmp_path):
    log = tmp_path / "log.txt"
    for _ in range(3):  # a copying process has begun by then, or has not
        with redirected_output(log):
            child = subprocess.Popen(["sleep", "60"])
            os.write(1, b"line\n" * 20_000)
        assert log.read_bytes() == b"line\n" * 20_000
        child.kill()
        child.wait()
        log.unlink()
