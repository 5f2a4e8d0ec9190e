"""Code that lies in a checkpoint, and is named in its `auto_map`, is never executed."""

import json
import shutil
from pathlib import Path

import nemo_distill
from evaluator.serve.engine import Engine
from nemo_distill.data.models import model_folder
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.families.checkpoint import copy_tokenizer

DEBUG = Path(nemo_distill.__file__).parent / "debug" / "teacher"


def test_no_code_of_a_checkpoint_is_executed_and_none_is_copied(tmp_path):
    folder, done = tmp_path / "teacher", tmp_path / "executed"
    shutil.copytree(DEBUG, folder)
    for name, classes in {
        "config.json": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    }.items():
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(record | {"auto_map": classes}))
    (folder / "evil.py").write_text(f"open({str(done)!r}, 'w').write('by ' + __name__)\nclass Evil: pass\n")
    assert Engine.load(folder, threads=1).context == 256
    assert Tokenizer(model_folder(str(folder), weights=False)).vocab_size == 1024
    copy_tokenizer(folder, tmp_path / "copied")
    assert not done.exists()
    assert not list((tmp_path / "copied").glob("*.py"))
