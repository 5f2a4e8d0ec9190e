"""Measuring served checkpoints, with a stand-in for vLLM: its server and its benchmark client."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import serving
from evaluator.serve import client
from evaluator.serve.bench import JOURNAL, Plan, bench, take_one_gpu
from evaluator.serve.client import Part, decoding_at, decoding_of
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.throughput import Decoding, Setting, gpu_hours, lines, read_throughput
from evaluator.serve.vllm import find_vllm
from tests.evaluator.conftest import TEACHER
from tests.evaluator.serve.vllm_for_tests import installed, nvidia_smi

CHECKPOINTS = {"bf16": TEACHER, "fp8": TEACHER}


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    """The stand-in's, on a machine whose GPUs nvidia-smi names."""
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    return installed(tmp_path / "venv")


@pytest.fixture
def measure(environment, tmp_path, monkeypatch):
    """What measures both checkpoints, and says what was measured anew."""
    monkeypatch.setattr(client, "STEADY_TOKENS", 32)

    def run(*settings: str, **changes):
        said: list[str] = []
        plan = Plan(settings=tuple(map(Setting.parse, settings)), **changes)
        found = bench(
            CHECKPOINTS, find_vllm(str(environment)), plan, gpu=take_one_gpu(), folder=tmp_path / "it", say=said.append
        )
        return found, [line.rpartition(":")[0] for line in said]

    return run


def test_a_kill_keeps_what_was_measured_and_the_next_command_measures_the_rest(measure, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_DIES", "5")  # in the second setting
    with pytest.raises(ProgramFailed, match=r"vLLM 0.23.0, serving '.*', ended with 1; .*log:\n(.*\n)*.*illegal"):
        measure("6/8x2:4", "3/4x2", contexts=(40,), in_flight=2, decoded=("fp8",))
    monkeypatch.delenv("STAND_IN_DIES")
    journal = tmp_path / "it" / JOURNAL
    before = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line.get("measured") for line in before] == [None, "memory", "6/8x2:4"]
    with open(journal, "a") as file:
        file.write('{"label": "bf16", "measured": "3/4x2", "tokens_per')  # the kill came here
    found, said = measure("6/8x2:4", "3/4x2", contexts=(40,), in_flight=2, decoded=("fp8",))
    rest = ["bf16, 3/4x2", "fp8, 6/8x2:4", "fp8, 3/4x2", "fp8, decode 40x2"]
    assert said == [*rest, "bf16-control, 6/8x2:4", "bf16-control, 3/4x2"]
    first = found.model("bf16").rate("6/8x2:4")
    assert dataclasses.asdict(first).items() <= before[2].items()
    assert (first.generated_tokens, first.prompt_tokens) == (32, 24)
    assert first.tokens_per_second == pytest.approx(32 / first.seconds)
    memory = found.model("fp8").memory
    assert dataclasses.astuple(memory) == (13.06, 54.7, 2_101_248, 72.375)
    (decoding,) = found.model("fp8").decoding
    assert decoding.in_flight == 2 and 30 < decoding.context_tokens < 300
    assert found.model("fp8").aime_gpu_hours == pytest.approx(960 * 15_000 / decoding.tokens_per_second / 3600)
    assert not found.model("bf16").decoding
    assert found.ratio("bf16", "3/4x2") == 1 and found.ratio("fp8", "3/4x2") > 0
    again = found.models[-1]
    assert again.control and found.drift("3/4x2") == pytest.approx(
        again.rate("3/4x2").tokens_per_second / found.model("bf16").rate("3/4x2").tokens_per_second
    )
    found.save(tmp_path)
    assert read_throughput(tmp_path) == found
    assert any(line.startswith("| bf16, again | ") for line in lines(found))
    told = json.loads((tmp_path / "it" / "server-fp8.log").read_text().splitlines()[0])
    assert told["argv"][told["argv"].index("--data-parallel-size") + 1] == "1"  # of the two that there are
    _, said = measure("6/8x2:4", "3/4x2", contexts=(40,), in_flight=2, decoded=("fp8",))
    assert not said
    journal.write_text(journal.read_text().replace("0.23.0", "0.22.1", 1))  # another vLLM had measured it
    monkeypatch.setenv("STAND_IN", "stops")
    with pytest.raises(ProgramFailed, match=r"an answer at 6/8x2:4 has 7 tokens, not 8: they end early"):
        measure("6/8x2:4", "3/4x2", contexts=(40,), in_flight=2, decoded=("fp8",))
    assert len(journal.read_text().splitlines()) == 1 and journal.with_suffix(".before.jsonl").exists()


def test_the_rate_of_decoding_is_that_of_the_time_at_which_all_generate():
    part = decoding_at(100, 2, 64)
    setting = dataclasses.replace(part.setting, output_tokens=11)
    record = {  # the second begins at 3.0, when the first has 5 tokens; the first is done at 6.0
        "completed": 2, "start_times": [0.0, 0.0], "ttfts": [1.0, 3.0], "input_lens": [90, 90], "output_lens": [11, 11],
        "itls": [[0.5] * 10, [0.25] * 5],  # of the second two tokens come at a time
    }  # fmt: skip
    found = decoding_of(record, Part(setting=setting, context=100), 0)
    first = [(3.5 + place / 2, 90 + 5 + place) for place in range(6)]  # time, context
    second = [(3.25 + place / 4, 90 + 2 * (place + 1)) for place in range(5)]
    begin, end = 3.0, 4.25
    counted = [(context, 1) for time, context in first if begin < time <= end]
    counted += [(context, 2) for time, context in second if begin < time <= end]
    contexts, tokens = map(list, zip(*counted, strict=True))
    assert found.tokens_per_second == pytest.approx(sum(tokens) / (end - begin))
    assert found.context_tokens == pytest.approx(np.average(contexts, weights=tokens))
    record["ttfts"] = [1.0, 6.5]
    with pytest.raises(ProgramFailed, match="the first of 2 requests was done before the last had begun"):
        decoding_of(record, Part(setting=setting, context=100), 0)
    record |= {"completed": 1, "errors": ["", "Traceback\nClientConnectorError"]}
    with pytest.raises(ProgramFailed, match="1 of 2 requests at .* were answered: Traceback ClientConnectorError"):
        decoding_of(record, Part(setting=setting, context=100), 0)


def test_a_request_is_still_generating_when_the_last_prompt_has_been_read():
    for context in (1_024, 8_192, 15_360):
        setting = decoding_at(context, 128, 8_192).setting
        read = 128 * setting.input_tokens / (8_192 - 128)  # steps, each of which gives a token to those that have begun
        assert 100 < setting.output_tokens - read < 500
        assert setting.input_tokens < context < setting.length


def test_gpu_hours_are_the_integral_of_the_time_that_a_token_takes():
    measured = [(1_030.0, 4_100.0), (8_200.0, 3_300.0), (15_350.0, 2_700.0)]
    decoding = [
        Decoding(context_tokens=context, in_flight=128, tokens_per_second=rate, seconds=9.0)
        for context, rate in reversed(measured)
    ]
    places = np.arange(15_000) + 0.5
    seconds = np.interp(places, [context for context, _ in measured], [1 / rate for _, rate in measured])
    assert gpu_hours(decoding) == pytest.approx(960 * seconds.sum() / 3600, rel=1e-6)
    assert gpu_hours(decoding[:1], tokens=20_000) == pytest.approx(960 * 20_000 / 2_700 / 3600)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("32768x16", "'32768x16' is no setting: INPUT/OUTPUTxIN_FLIGHT, .* e.g. 32768/1024x16"),
        ("512/4096x128:64", "has 64 requests for 128 places: the nearest is 512/4096x128"),
        ("\uff13\uff12/10x1", "is no setting: INPUT/OUTPUTxIN_FLIGHT"),
        ("9" * 5000 + "/5x1", "is no setting: INPUT/OUTPUTxIN_FLIGHT"),
        ("512/1x1", "at least 1 token in, 2 out"),
        ("512/64x129", "'512/64x129' has 129 in flight, and a GPU is given 1 to 128: say 128"),
        ("5/6x7,5/6x7", "5/6x7 is named twice"),
        (" ", "nothing to measure"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence_and_nothing_is_written(environment, tmp_path, capsys, text, sentence):
    command = ["--vllm", str(environment), "--out", str(tmp_path / "out"), f"one={TEACHER}"]
    assert serving.main([*command, "--settings", text]) == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said) and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_control_can_be_some_of_the_settings_or_none():
    study, short = map(Setting.parse, ("9/9x1", "1/99x8"))
    for again, names in ((None, ["9/9x1", "1/99x8"]), ((study,), ["9/9x1"]), ((), None)):
        plan = Plan(settings=(study, short), again=again)
        last = plan.turns(CHECKPOINTS)[-1]
        assert (plan.names(last) if last.control else None) == names
    with pytest.raises(ValueError, match="1/99x8 is to be measured again, and is none of the settings"):
        Plan(settings=(study,), again=(short,))


def test_what_is_not_there_is_a_sentence(environment, tmp_path, capsys, monkeypatch):
    def said(*words: str) -> str:
        assert serving.main(["--out", str(tmp_path / "out"), *words]) == 2
        return capsys.readouterr().err

    given = ["--vllm", str(environment)]
    assert "'hf' names no checkpoint: LABEL=FOLDER" in said(*given, "hf")
    assert "two checkpoints are called a" in said(*given, "a=x", "a=y")
    assert "there is no checkpoint folder 'nowhere'" in said(*given, f"a={TEACHER}", "b=nowhere")
    assert "--decode-of names no 'c': there are a" in said(*given, f"a={TEACHER}", "--decode-of", "c")
    assert "'8K' is no context to decode at" in said(*given, f"a={TEACHER}", "--decode", "8K")
    assert "--vllm=nowhere: there is no such file" in said("--vllm", "nowhere", f"a={TEACHER}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-smi knows no GPU 2 here" in said(*given, f"a={TEACHER}")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none_of_this_form_is_not_read(tmp_path):
    assert read_throughput(tmp_path) is None
    for text in ("{", "[]", '{"tasks": []}', '{"form": 2}', '{"form": 1, "models": [{}]}'):
        (tmp_path / "results.json").write_text(text)
        assert read_throughput(tmp_path) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("setting", "long"), ("setting", 5), *(("tokens_per_second", bad) for bad in ("963", None, -1, float("nan")))],
)
def test_a_rate_that_nothing_can_have_measured_is_not_read(tmp_path, field, value):
    rate = {"setting": "8/8x1", "tokens_per_second": 9.0, "seconds": 1.0, "generated_tokens": 8, "prompt_tokens": 8}
    rate |= {f"{of}_token_{which}_ms": 1.0 for of in ("first", "inter") for which in ("median", "p99")}
    of = {"label": "a", "identity": "0", "control": False, "memory": None, "decoding": [], "aime_gpu_hours": None}
    record = {"form": 1, "gpu": "H100", "vllm": "0.24.0", "settings": ["8/8x1"], "models": [of | {"rates": [rate]}]}
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert read_throughput(tmp_path).model("a").rate("8/8x1").tokens_per_second == 9
    rate[field] = value
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert read_throughput(tmp_path) is None
