"""What is known of a teacher before anything runs."""

import json
import shutil
from pathlib import Path

import pytest

import nemo_distill
from nemo_distill.config.teacher import FOLDER, Teacher
from nemo_distill.data.hub_errors import MIRROR
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape
from nemo_distill.outcome.weights import check_weights
from nemo_distill.plan.teacher import look

DEBUG = Path(nemo_distill.__file__).parent / "debug" / "teacher"
SHAPE = Shape.from_hf_config(json.loads((DEBUG / "config.json").read_text()))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 55591\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """The debug teacher without its weights, which nothing here reads."""
    copied = tmp_path / "teacher"
    shutil.copytree(DEBUG, copied, ignore=shutil.ignore_patterns("*.safetensors"))
    return copied


def seen(teacher: str, tmp_path: Path):
    return look(Teacher.chosen(teacher), imported=tmp_path / "not-imported")


def refusal(teacher: str, tmp_path: Path) -> str:
    with pytest.raises(UserError) as refused:
        seen(teacher, tmp_path)
    return str(refused.value)


def changed(folder: Path, name: str = "config.json", **changes) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_is_its_config_and_lies_anywhere(folder, tmp_path):
    known = seen(str(folder), tmp_path)
    assert known.shape == SHAPE and known.name == str(folder)
    teacher = Teacher.chosen(str(folder))
    moved = folder.rename(tmp_path / "moved")
    again = Teacher.chosen(str(moved))
    assert (again.checkpoint, again.sha256) == (teacher.checkpoint, teacher.sha256) == (FOLDER, teacher.sha256)
    changed(moved, vocab_size=2048)
    assert Teacher.chosen(str(moved)).sha256 != teacher.sha256


def test_a_folder_whose_weights_are_not_whole_is_named_with_what_it_lacks(folder):
    with pytest.raises(UserError, match=r"^teacher=.*: the checkpoint lacks the file '.*/model.safetensors'\.$"):
        check_weights(str(folder))
    check_weights(str(DEBUG))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, " is a hybrid of Mamba and attention layers"),
        ({"mamba_hidden_act": "gelu"}, ": mamba_hidden_act='gelu' is not supported"),
        (
            {"vocab_size": 700},
            ": its tokenizer has ids up to 1,023, and its embedding 700 rows (vocab_size in config.json), so that 324",
        ),
    ],
)
def test_a_folder_that_cannot_be_a_teacher_is_refused_by_what_is_wrong(folder, tmp_path, changes, sentence):
    changed(folder, **changes)
    assert refusal(str(folder), tmp_path).startswith(f"teacher={folder}{sentence}")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"weights/x": b"", "context/y": b""}, "has no config.json: it is a checkpoint of NeMo"),
        ({"adapter_config.json": b"{}"}, "has no config.json: it holds an adapter"),
        ({"q4.gguf": b""}, "has no config.json: q4.gguf is llama.cpp's"),
        ({"config.json": b"[]"}, "holds no JSON object"),
        ({"config.json": POINTER}, "config.json' is a pointer of Git LFS"),
        (
            {"config.json": (DEBUG / "config.json").read_bytes(), "tokenizer.json": POINTER},
            "tokenizer.json' is a pointer of Git LFS",
        ),
        ({"config.json": b'{"a'}, "is cut short or no JSON"),
        ({"config.json": (DEBUG / "config.json").read_bytes()}, "lacks the file"),
        (
            {
                "config.json": (DEBUG / "config.json").read_bytes(),
                "tokenizer.json": b'{"model": {"vocab": {"a": "b"}}}',
            },
            "is cut short, or no tokenizer",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_named_for_what_it_is(tmp_path, files, sentence):
    for name, content in files.items():
        path = tmp_path / "it" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert sentence in refusal(str(tmp_path / "it"), tmp_path)


@pytest.mark.parametrize("teacher", ["/no/such/folder", "./teacher", "a/b/c", "teacher", "org/name@", "~/teacher"])
def test_what_is_neither_a_folder_nor_a_name_is_refused(teacher, tmp_path):
    assert refusal(teacher, tmp_path).startswith(
        f"teacher={teacher}: there is no such folder, and a model of the hub is"
    )


def test_a_published_teacher_asks_no_hub_and_what_is_imported_says_what_it_is(local_hub, tmp_path):
    assert seen("nvidia/NVIDIA-Nemotron-Nano-9B-v2", tmp_path).shape == NANO_9B_V2
    imported = tmp_path / "imported"
    imported.mkdir()
    NANO_7B_PRUNED.save(imported / "shape.json")
    assert look(Teacher.chosen("org/own"), imported=imported).shape == NANO_7B_PRUNED
    assert local_hub.requests == []


def test_of_a_model_on_the_hub_the_config_is_read_and_nothing_else_and_nothing_is_kept(local_hub, tmp_path):
    files = {"config.json": (DEBUG / "config.json").read_bytes(), "model.safetensors": b"weights"}
    commit = local_hub.add("org/own", files).commit
    assert seen("org/own", tmp_path).shape == SHAPE
    assert seen(f"org/own@{commit}", tmp_path).shape == SHAPE
    assert "has no revision 'v9'" in refusal("org/own@v9", tmp_path)
    assert {request.rpartition("/")[2] for request in local_hub.requests if "resolve" in request} == {"config.json"}
    assert not list((tmp_path / "hub-cache").rglob("*"))
    local_hub.add("org/experts", {"config.json": b'{"model_type": "x", "num_experts": 128}'})
    assert "org/experts is a mixture of experts: 128 routed experts" in refusal("org/experts", tmp_path)
    assert "org/none is no folder here, and there is no model org/none" in refusal("org/none", tmp_path)


def test_where_the_hub_is_out_of_reach_the_shape_is_not_known_and_the_reason_is(local_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    known = seen("org/own", tmp_path)
    assert known.shape is None and "could not be reached" in known.in_words


def test_a_mirror_of_another_revision_is_refused(local_hub, folder, tmp_path, monkeypatch):
    mirrored = tmp_path / "mirror" / "org" / "own"
    mirrored.parent.mkdir(parents=True)
    folder.rename(mirrored)
    note = mirrored / ".cache/huggingface/download/config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'a' * 40}\netag\n1.0\n")
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    assert seen(f"org/own@{'a' * 40}", tmp_path).shape == SHAPE
    assert f"is revision {'a' * 40} of org/own" in refusal(f"org/own@{'b' * 40}", tmp_path)
