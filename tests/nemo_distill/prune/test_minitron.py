"""ModelOpt's Minitron pruning on a small Nemotron-H, both ways, and what comes out of it."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import nemo_distill
from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill import backends, families
from nemo_distill.families import checkpoint
from nemo_distill.nemotron_h import mapping
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.candidates import Serving, layers_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("backend")]

TEACHER = Path(nemo_distill.__file__).parent / "debug" / "teacher"
PLUGINS = "modelopt.torch.utils.plugins"
DIVISORS = {
    "hidden_size_divisor": 16,
    "ffn_hidden_size_divisor": 32,
    "mamba_head_dim_divisor": 4,
    "num_layers_divisor": 1,
}


@pytest.fixture
def teacher(backend):
    """The debug teacher as a Megatron module, its shape, the session and its runtime."""
    shape, state = checkpoint.read_hf(TEACHER, files=verify_checkpoint(TEACHER))
    runtime = Runtime(seq_length=64)
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=TEACHER, runtime=runtime)
        backend.load(module, mapping.to_megatron(state, shape))
        yield module, shape, session, runtime


def calibration(shape: Shape) -> torch.Tensor:
    return torch.randint(0, shape.vocab_size, (16, 64), generator=torch.Generator().manual_seed(0))


def rebuilt_logits(module, shape: Shape, session, runtime, tokens):
    """Logits of a new model of the pruned shape that is given the pruned module's tensors."""
    backend = backends.get()
    again = backend.build(session, shape, tokenizer=TEACHER, runtime=runtime)
    backend.load(again, backend.state_of(module))
    return again.eval()(tokens, torch.arange(64).expand_as(tokens), None)


def test_an_export_config_gives_the_sizes_it_names(teacher, tmp_path):
    from nemo_distill.prune import minitron as pruning

    module, shape, session, runtime = teacher
    sizes = {
        "hidden_size": shape.hidden_size - 16,
        "ffn_hidden_size": shape.ffn_hidden_size - 32,
        "mamba_head_dim": shape.mamba_head_dim - 4,
        "num_layers": shape.num_layers - 1,
    }
    result = pruning.prune(
        module,
        shape,
        pruning.Request(export_config=sizes, divisors=DIVISORS),
        calibration=calibration(shape),
        score=lambda m: 0.0,
        state_file=tmp_path / "search.pt",
    )
    assert {name: getattr(result.shape, name) for name in sizes} == sizes
    assert result.shape.parameters() == sum(p.numel() for p in module.parameters())
    kept = [n for n in range(1, shape.num_layers + 1) if n not in result.dropped_layers]
    assert len(result.dropped_layers) == 1
    assert result.shape.pattern == "".join(shape.pattern[n - 1] for n in kept)
    least = sorted(result.layer_scores, key=result.layer_scores.get)[:1]
    assert sorted(least) == result.dropped_layers
    tokens = calibration(shape)[:2]
    with torch.no_grad():
        pruned = module.eval()(tokens, torch.arange(64).expand_as(tokens), None)
        again = rebuilt_logits(module, result.shape, session, runtime, tokens)
    assert torch.equal(pruned, again)


def test_a_search_keeps_the_best_of_its_candidates_under_the_target(teacher, tmp_path):
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    target = 0.75 * shape.parameters()
    scored = []

    def narrowest(m) -> float:
        scored.append(m.config.hidden_size)
        return -m.config.hidden_size

    result = pruning.prune(
        module,
        shape,
        pruning.Request(parameters=0.75, divisors=DIVISORS),
        calibration=calibration(shape),
        score=narrowest,
        state_file=tmp_path / "search.pt",
    )
    assert len(result.candidates) == len(scored) == 10
    assert all(0.7 * shape.parameters() < c["parameters"] <= target for c in result.candidates)
    assert [c["chosen"] for c in result.candidates].count(True) == 1
    assert result.candidates[0]["chosen"] and result.candidates[0]["hidden_size"] == min(scored)
    assert (
        result.shape.parameters() == result.candidates[0]["parameters"] == sum(p.numel() for p in module.parameters())
    )
    assert result.shape.num_attention_heads == shape.num_attention_heads
    json.dumps(result.candidates)


def test_the_candidates_are_those_that_modelopt_lists(teacher, tmp_path, monkeypatch):
    from modelopt.torch.opt.utils import named_hparams
    from modelopt.torch.prune.plugins.mcore_minitron import MCoreMinitronSearcher

    from nemo_distill.plan.candidates import Candidates, parameters
    from nemo_distill.prune import minitron as pruning
    from nemo_distill.prune import search

    module, shape, *_ = teacher
    lists = []
    choices = {}

    def compare(searcher):
        hparams = named_hparams(searcher.model, configurable=True)
        choices.update({name.split(".")[-1]: sorted(hp.choices) for name, hp in hparams})
        found = Candidates(shape, searcher.axes())
        layers = found.kept(searcher.sorted_layers)
        counts = parameters(found, layers)
        order = found.order(searcher.config["bounds"], layers)
        lists.append([(found.sizes(place), float(counts[place])) for place in order])
        searcher.config["top_k"] = len(order)
        best = MCoreMinitronSearcher.search_best_arch_by_params(searcher)
        listed = searcher.top_k_candidates_per_constraint[searcher.constraints["params"]]
        lists.append([(one.ss_config, one.params) for one in listed])
        return best

    request = pruning.Request(
        parameters=0.75, divisors=DIVISORS | {"ffn_hidden_size_divisor": 128}, max_width=0.6, max_depth=0.4,
        skip=("num_attention_heads", "mamba_head_dim"),
    )  # fmt: skip
    monkeypatch.setattr(search.Search, "search_best_arch_by_params", compare)
    monkeypatch.setattr(search.Search, "eval_score", lambda self, silent: 0.0)
    pruning.prune(
        module, shape, request,
        calibration=calibration(shape), score=lambda m: 0.0, state_file=tmp_path / "search.pt",
    )  # fmt: skip
    ours, theirs = lists
    assert len(ours) > 20
    assert {one["num_layers"] for one, _ in ours} == {5, 6, 7, 8} and "mamba_head_dim" not in ours[0][0]
    assert ours == theirs
    assert choices == families.of(shape).choices(shape, DIVISORS | {"ffn_hidden_size_divisor": 128})


def test_a_student_that_loses_every_attention_layer_is_refused_and_the_search_lists_none(
    teacher, tmp_path, monkeypatch
):
    from nemo_distill.plan.candidates import Bounds
    from nemo_distill.prune import minitron as pruning
    from nemo_distill.prune import search

    module, shape, *_ = teacher
    request = pruning.Request(export_config={"num_layers": 6}, divisors=DIVISORS)
    with pytest.raises(ValueError, match="every attention layer is dropped, all of which rank below 6 .* one is 7"):
        pruning.prune(
            module, shape, request,
            calibration=calibration(shape), score=lambda m: 0.0, state_file=tmp_path / "search.pt",
        )  # fmt: skip
    searcher = search.Search()
    searcher.sorted_layers = [1, 8, 3, 6, 5, 2, 4, 7]
    searcher.config = {"shape": shape, "alignment": None, "bounds": Bounds(parameters=shape.parameters())}
    monkeypatch.setattr(searcher, "axes", lambda: {"num_layers": [6, 7, 8]})
    assert [one.ss_config["num_layers"] for one in searcher.listed(10)[0]] == [8, 7]


def test_a_target_under_which_there_is_nothing_is_refused(teacher, tmp_path):
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    with pytest.raises(ValueError, match="at most 10,000 parameters, and no candidate has fewer than"):
        pruning.prune(
            module, shape, pruning.Request(parameters=10_000, divisors=DIVISORS),
            calibration=calibration(shape), score=lambda m: 0.0, state_file=tmp_path / "search.pt",
        )  # fmt: skip


def test_mmlu_scores_a_model_as_modelopt_does_one_question_after_another(teacher, tmp_path, monkeypatch):
    """The output layer favours letters and a line's end, so that answers differ and some come in the second token."""
    from transformers import AutoTokenizer

    from nemo_distill.prune import logits, scores

    theirs, one_by = map(importlib.import_module, (f"{PLUGINS}.megatron_mmlu", f"{PLUGINS}.megatron_generate"))
    module, *_ = teacher
    folder, words = tmp_path / "cais" / "mmlu", AutoTokenizer.from_pretrained(TEACHER)
    dice = torch.Generator().manual_seed(3)
    configs = []
    for subject, count in (("college_physics", 7), ("law", 12)):
        rows = [
            {
                "question": f"What is {'so ' * (place % 5)}much as {place * 7}?",
                "subject": subject,
                "choices": [str(place + n) for n in range(4)],
                "answer": int(torch.randint(4, (1,), generator=dice)),
            }
            for place in range(count)
        ]
        (folder / subject).mkdir(parents=True)
        for split in ("test", "dev"):
            (folder / subject / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = [f"{{split: {split}, path: {subject}/{split}.jsonl}}" for split in ("test", "dev")]
        configs.append(f"- {{config_name: {subject}, data_files: [{', '.join(files)}]}}")
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(theirs, "_get_all_subjects", lambda: ["college_physics", "law"])  # which asks the hub
    monkeypatch.setattr(one_by, "get_current_memory_info", lambda: "")  # these two insist on CUDA
    monkeypatch.setattr(one_by, "broadcast_from_last_pipeline_stage", lambda size, dtype, tensor: tensor)
    favoured = [words.encode(letter, add_special_tokens=False)[-1] for letter in (*"ABCD", "\n")]
    with torch.no_grad():
        weight = module.output_layer.weight
        weight[favoured] = 3 * torch.randn(len(favoured), weight.shape[1], generator=dice)
    monkeypatch.setattr(logits, "BATCH_TOKENS", 300)
    for fraction, asked in ((0.3, 3 + 4), (1.0, 19)):
        questions = scores.mmlu_questions(fraction)
        assert len(questions) == asked
        one_by_one = [
            words.batch_decode(
                one_by.megatron_generate(
                    module, words(one.prompt, return_tensors="pt").input_ids, osl=2, enable_kv_cache=False,
                    disable_tqdm=True,
                )
            )[0].strip()
            for one in questions
        ]  # fmt: skip
        together = scores.greedy(module, words, [one.prompt for one in questions])
        assert [answer[:1] for answer in together] == [answer[:1] for answer in one_by_one]
        material = scores.Material(held_out=torch.empty(0), tokenizer=TEACHER, mmlu_fraction=fraction)
        score = scores.find_score("mmlu")(material)(module)
        assert score == theirs.megatron_mmlu(module, words, percentage=fraction)
    assert 0 < score < 1 and len(set(together)) > 2


def test_a_search_keeps_to_a_bound_on_memory_beside_one_on_parameters_or_alone(teacher, tmp_path):
    """At 64 sequences of 256 tokens the cache counts for more than the weights; what is listed keeps to both bounds."""
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    told = []
    bounds = {"memory_mb": 15, "memory_seq_length": 256, "memory_batch_size": 64, "memory_precision": "float32"}
    request = pruning.Request(parameters=0.75, divisors=DIVISORS, candidates=3, **bounds)
    result = pruning.prune(
        module, shape, request, calibration=calibration(shape), score=lambda m: m.config.hidden_size,
        state_file=tmp_path / "search.pt", say=lambda *said: told.append(said),
    )  # fmt: skip
    serving = Serving(seq_length=256, batch_size=64, precision="float32")
    assert serving.mb(shape, layers_of(shape)) > 23
    assert [one["memory_mb"] <= 15 and one["parameters"] <= 0.75 * shape.parameters() for one in result.candidates] == [
        True, True, True,
    ]  # fmt: skip
    (chosen,) = (one for one in result.candidates if one["chosen"])
    assert chosen["memory_mb"] == pytest.approx(serving.mb(result.shape, layers_of(result.shape)), abs=1e-3)
    assert result.shape.parameters() == sum(p.numel() for p in module.parameters())
    assert told == [
        (0, 16, "sequences"), (8, 16, "sequences"), *((n, 3, "candidates") for n in (0, 1, 1, 2, 2, 3)),
    ]  # fmt: skip


def test_a_search_that_was_cut_scores_no_candidate_twice(backend, tmp_path):
    from nemo_distill.prune import minitron as pruning

    shape, state = checkpoint.read_hf(TEACHER, files=verify_checkpoint(TEACHER))
    request = pruning.Request(parameters=0.8, divisors=DIVISORS, candidates=4)
    runtime = Runtime(seq_length=64)
    seen = []

    def run(stop_after: int | None):
        def score(m) -> float:
            if stop_after is not None and len(seen) == stop_after:
                raise KeyboardInterrupt
            seen.append(sum(p.numel() for p in m.parameters()))
            return float(len(seen))

        with backend.session(runtime) as session:
            module = backend.build(session, shape, tokenizer=TEACHER, runtime=runtime)
            backend.load(module, mapping.to_megatron(state, shape))
            return pruning.prune(
                module, shape, request,
                calibration=calibration(shape), score=score, state_file=tmp_path / "search.pt",
            )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run(stop_after=2)
    result = run(stop_after=None)
    assert len(seen) == 4
    assert sorted(c["score"] for c in result.candidates) == [1, 2, 3, 4]


def test_the_best_that_is_fp8_aligned_is_scored_beside_the_best(teacher, tmp_path):
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    scored = []

    def widest(m) -> float:
        scored.append(m.config)
        return m.config.hidden_size + m.config.ffn_hidden_size / 1000

    result = pruning.prune(
        module, shape,
        pruning.Request(
            parameters=0.75, divisors=DIVISORS, candidates=3, chip_friendly="report",
            chip_multiple=8,
        ),
        calibration=calibration(shape), score=widest, state_file=tmp_path / "search.pt",
    )  # fmt: skip
    largest = [one for one in result.candidates if one["largest"]]
    friendly = [one for one in result.candidates if one["chip_friendly"]]
    assert len(largest) == 3 and len(friendly) >= 3
    assert len(scored) == len(result.candidates) < 3 + len(friendly)  # what both searches found is scored once
    assert all(bool(one["misfits"]) != one["chip_friendly"] for one in result.candidates)
    assert all(one["mamba_num_heads"] == 8 for one in friendly)  # of a row per head, six give no multiple of 8
    assert min(one["parameters"] for one in largest) >= max(one["parameters"] for one in friendly if not one["largest"])
    (chosen,) = (one for one in result.candidates if one["chosen"])
    assert chosen == max(largest, key=lambda one: one["score"])
    assert result.shape.parameters() == chosen["parameters"]


@pytest.mark.parametrize(("multiple", "there_is_one"), [(8, True), (16, False)])
def test_an_fp8_aligned_shape_can_be_asked_for(teacher, tmp_path, multiple, there_is_one):
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    request = pruning.Request(
        parameters=0.9, divisors=DIVISORS, candidates=2, chip_friendly="require",
        chip_multiple=multiple,
    )  # fmt: skip
    scored = []

    def fewest_heads(m) -> float:
        scored.append(m.config.mamba_num_heads)
        return -m.config.mamba_num_heads

    def prune():
        return pruning.prune(
            module, shape, request,
            calibration=calibration(shape), score=fewest_heads, state_file=tmp_path / "search.pt",
        )  # fmt: skip

    if there_is_one:
        result = prune()
        assert not request.alignment.misfits(result.shape)
        assert sum(p.numel() for p in module.parameters()) == result.shape.parameters()
        (chosen,) = (one for one in result.candidates if one["chosen"])
        assert chosen["parameters"] == result.shape.parameters()
        return
    with pytest.raises(
        ValueError, match="no candidate .* in multiples of 16 at tensor parallel 1. The largest has not because"
    ):
        prune()
    assert not scored


def test_a_state_file_cut_short_is_dropped(tmp_path):
    from nemo_distill.prune import minitron as pruning

    file = tmp_path / "search.pt"
    torch.save({"layer_scores": {}}, file)
    file.write_bytes(file.read_bytes()[:100])
    assert not pruning._loadable(file)
    assert not file.exists()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "either export_config or a target"),
        ({"parameters": 0.5, "export_config": {"hidden_size": 64}}, "either export_config or a target"),
        ({"export_config": {"hiden_size": 64}}, "'hiden_size' cannot be pruned"),
        ({"parameters": -1}, "must be positive, not -1"),
        ({"parameters": 0.5, "chip_friendly": "yes"}, "chip_friendly cannot be 'yes'"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_its_value(request_, message):
    from nemo_distill.prune import minitron as pruning

    with pytest.raises(ValueError, match=message):
        pruning.Request(**request_)


def test_sizes_larger_than_the_teacher_s_are_refused(teacher, tmp_path):
    from nemo_distill.prune import minitron as pruning

    module, shape, *_ = teacher
    with pytest.raises(ValueError, match="hidden_size=99999"):
        pruning.prune(
            module,
            shape,
            pruning.Request(export_config={"hidden_size": 99999}),
            calibration=calibration(shape),
            score=lambda m: 0.0,
            state_file=tmp_path / "search.pt",
        )
