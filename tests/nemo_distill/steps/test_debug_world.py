"""The step that writes the debug corpora: what it leaves, and that leftovers of a cut attempt do no harm."""

import json

from nemo_distill.debug import corpora
from nemo_distill.run.step import Step, place
from nemo_distill.steps import debug_world

CONFIG = {"seed": 4, "documents": {"stem": 5, "sft-math": 3}}


def spec(runs, config=CONFIG):
    placed = place([Step("world", debug_world.__name__, config)], runs=runs)["world"]
    placed.folder.mkdir(parents=True)
    return placed


def test_it_writes_each_source_and_says_what_it_wrote(tmp_path):
    world = spec(tmp_path)
    debug_world.main(world)
    manifest = json.loads((world.folder / "manifest.json").read_text())
    assert manifest["seed"] == 4
    for source, count in CONFIG["documents"].items():
        lines = (world.folder / "corpora" / manifest["corpora"][source]["file"]).read_text().splitlines()
        assert [json.loads(line) for line in lines] == corpora.documents(source, seed=4, count=count)
        assert manifest["corpora"][source]["documents"] == count


def test_what_a_killed_attempt_left_is_written_over(tmp_path):
    whole, cut = spec(tmp_path / "whole"), spec(tmp_path / "cut")
    (cut.folder / "corpora").mkdir()
    (cut.folder / "corpora" / "stem.jsonl").write_text('{"messages": [')
    (cut.folder / "corpora" / ".stem.part").write_text("half")
    for world in (whole, cut):
        debug_world.main(world)
    names = sorted(path.name for path in (whole.folder / "corpora").iterdir())
    assert names == sorted(path.name for path in (cut.folder / "corpora").iterdir())
    for name in names:
        assert (whole.folder / "corpora" / name).read_bytes() == (cut.folder / "corpora" / name).read_bytes()
