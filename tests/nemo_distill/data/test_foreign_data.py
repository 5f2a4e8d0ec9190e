"""Data sets and checkpoints of strangers: bounded, asked for nothing elsewhere, and shown as text."""

import csv
import gzip
import json
import os
import stat

import pytest
from safetensors.numpy import save_file

from evaluator.report.pages import render_page
from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.text import cells
from nemo_distill.config.blend import Blend
from nemo_distill.data import files, models, tokenizer
from nemo_distill.data.documents import rows
from nemo_distill.data.files import LocalFile
from nemo_distill.data.resolve import check_readme
from nemo_distill.data.tally import Tally
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import MOST_LAYERS
from nemo_distill.run.sharing import whom_it_trusts


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_line_without_an_end_is_refused_before_it_is_in_memory(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(files, "LINE_BYTES", 1 << 16)
    path = tmp_path / f"a.jsonl{ending}"
    whole = json.dumps({"text": "x" * 60_000}).encode() + b"\n"
    content = whole * 3 + b'{"text": "' + b"x" * (1 << 22)
    path.write_bytes(gzip.compress(content) if ending else content)
    tally = Tally()
    with pytest.raises(UserError, match="line 4 has more than 65,536 bytes, and is not read"):
        list(rows([LocalFile(path, path.name)], field="text", tally=tally))


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (
            "configs:\n- config_name: a\n  data_files: http://127.0.0.1:9/x.jsonl\n",
            "names 'http://127.0.0.1:9/x.jsonl'",
        ),
        (
            "configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: [a, 'hf://datasets/x/y/z']\n",
            "hf://",
        ),
        ("configs: [{config_name: a, data_files: zip://x::https://e.example/a.zip}]\n", "zip://x"),
        ("configs:\n- config_name: a\n  data_dir: ../../elsewhere\n", r"names '\.\./\.\./elsewhere'"),
        ("configs:\n- config_name: a\n  data_files: /etc/passwd\n", "names '/etc/passwd'"),
        ("configs:\n- config_name: a\n  data_files: ~/x\n", "names '~/x'"),
        ('configs:\n- {config_name: a, data_files: "ht\\u0074p:\\/\\/e.example"}\n', "names 'http://e.example'"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"has an alias, \*a, and is read without any"),
        ("a: &a {data_files: x}\nconfigs:\n- <<: *a\n", r"has an alias, \*a"),
        ("a: " + "[" * 5_000 + "\n", "is no YAML that is read"),
        ("a: !!python/object/apply:os.system [touch x]\n", "is no YAML that is read"),
        ("a: b\n" * 500_000, "has more than 2,000,000 characters"),
    ],
)
def test_the_head_of_a_readme_names_files_of_the_data_set_alone(head, sentence):
    for begin in ("---\n", "\n\n---\n"):
        with pytest.raises(UserError, match=sentence):
            check_readme(f"{begin}{head}---\n# Data\n", "org/name")


def test_the_head_of_a_readme_may_name_its_files_by_pattern_and_link_to_what_it_likes():
    said = "configs:\n- config_name: a\n  data_files: data/**/train-*.parquet\n"
    check_readme(f"---\nlicense: mit\n{said}thumbnail: https://e.example/x.png\n---\n*a &b\n", "org/name")
    check_readme("# No head\nhttps://e.example", "org/name")


def _config(**changed) -> dict:
    path = os.path.join(os.path.dirname(models.__file__), "..", "debug", "teacher", "config.json")
    with open(path) as file:
        return json.load(file) | changed


@pytest.mark.parametrize("changed", [{"hybrid_override_pattern": "M" * 3_000_000, "num_hidden_layers": 3_000_000}])
def test_a_model_of_millions_of_layers_is_refused_at_once(changed):
    from nemo_distill.nemotron_h.shape import Shape

    config = {
        key: value for key, value in _config(**changed).items() if key not in ("layers_block_type", "layer_types")
    }
    with pytest.raises(UserError, match=f"at most {MOST_LAYERS:,} are taken"):
        Shape.from_hf_config(config)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": ' + "1" * 5_000 + "}", "is cut short or no JSON"),
        ("[" * 100_000, "is cut short or no JSON"),
        (" " * 4_000_001, "has more than 4,000,000 bytes, and is not read"),
    ],
    ids=["digits", "nesting", "size"],
)
def test_a_config_of_a_checkpoint_is_bounded(tmp_path, text, sentence):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        models.model_config(str(tmp_path))


@pytest.mark.parametrize("name", ["../elsewhere/model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin"])
def test_an_index_of_a_checkpoint_leads_to_files_beside_it_alone(tmp_path, name):
    import numpy as np

    folder = tmp_path / "hf"
    for path in (folder, tmp_path / "elsewhere", folder / "a"):
        path.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text("{}")
    for path in (tmp_path / "elsewhere/model.safetensors", folder / "a/b.safetensors", folder / "x.bin"):
        save_file({"w": np.ones(2, np.float32)}, path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ValueError, match="its shards are .safetensors files beside it"):
        verify_checkpoint(folder)


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write((1 << 33).to_bytes(8, "little") + b"{}" + b" " * 50)
        file.truncate(1 << 34)
    with pytest.raises(ValueError, match="its header would have 8,589,934,592 bytes"):
        verify_checkpoint(tmp_path)


def test_a_chat_template_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(tokenizer, "TEMPLATE_SECONDS", 0.2)
    made = tokenizer.Tokenizer(os.path.join(os.path.dirname(models.__file__), "..", "debug", "teacher"))
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x"
    made._tokenizer.chat_template = loops
    with pytest.raises(tokenizer.TemplateStalls, match="at one conversation for more than 0.2 s"):
        made._rendered([{"role": "user", "content": "a"}], None)
    made._tokenizer.chat_template = "{{ messages[0].content }}"
    assert made._rendered([{"role": "user", "content": "a"}], None) == "a"


def test_an_answer_nested_deeper_than_python_parses_is_wrong_and_no_failure():
    from core_evals.nemo_distill.score import score

    code = {"kind": "code", "answer": "", "checks": {"function": "f", "cases": [[[1], 1]]}}
    deep = "def f(x):\n return " + "(" * 199 + "-" * 400 + "x" + ")" * 199
    for body in (deep, "def f(x):\n return " + "(" * 900 + "x" + ")" * 900, "def f(x):\n return " + "-" * 1900 + "1"):
        assert score(code, f"```python\n{body}\n```") == 0


def test_a_cell_is_no_formula(tmp_path):
    said = ["=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "-0.5", "+1e3", "2", "plain", -1, None]
    assert cells(said) == [*(f"'{one}" for one in said[:5]), *said[5:]]
    with open(tmp_path / "x.csv", "w", newline="") as file:
        csv.writer(file).writerow(cells(said))
    assert (tmp_path / "x.csv").read_text().startswith("'=HYPERLINK(1),")


def test_html_in_names_is_text_in_markdown(tmp_path):
    (tmp_path / "x.md.j2").write_text("# {{ name }} {{ number }} p {{ p }}\n")
    (tmp_path / "x.html.j2").write_text("{{ name }}")
    name = "a<script>alert(1)</script><!-- <img src=x>"
    said = render_page("x.md.j2", templates=tmp_path, name=name, number=3, p="< 0.001")
    assert said == "# a&lt;script>alert(1)&lt;/script>&lt;!-- &lt;img src=x> 3 p < 0.001"
    assert "<script>" not in render_page("x.html.j2", templates=tmp_path, name=name)


def test_names_end_no_line_of_markdown_and_add_no_cell_and_no_link(tmp_path):
    (tmp_path / "x.md.j2").write_text(
        "{% macro table(names) %}\n| Name |\n{% for one in names %}\n| {{ one }} |\n{% endfor %}\n{% endmacro %}\n"
        "# {{ name }}\n| {{ [name, 1] | row }} |\n{{ table([name]) }}"
    )
    name = "b: x\n---\n# Injected | x |\r\n```\n\x1b[31m\u202e ![](http://evil.example/p.png)\u2028"
    plain = r"b: x\n---\n# Injected \| x \|\r\n```\n\x1b[31m\u202e ![]\(http://evil.example/p.png)\u2028"
    said = render_page("x.md.j2", templates=tmp_path, name=name)
    assert said.splitlines() == [f"# {plain}", f"| {plain} | 1 |", "| Name |", f"| {plain} |"]


def test_a_blend_is_called_by_what_can_be_read_in_a_line():
    with pytest.raises(UserError, match=r"cannot be called 'a\\n# b', as reports are. Did you mean 'a # b'\?"):
        Blend(name="a\n# b", shares={"math-v2-part00": 100})
    assert Blend(name="Mischung für heute", shares={"math-v2-part00": 100}).name == "Mischung für heute"


def test_whom_a_shared_folder_trusts_is_said_to_who_has_no_run_in_it(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    assert whom_it_trusts(runs) == ""
    runs.chmod(stat.S_IMODE(runs.stat().st_mode) | stat.S_ISGID | stat.S_IWGRP)
    assert f"is shared with the group {runs.group()}: whoever is in it can change" in whom_it_trusts(runs)
    (runs / "mine.json").write_text("{}")
    assert whom_it_trusts(runs) == ""
