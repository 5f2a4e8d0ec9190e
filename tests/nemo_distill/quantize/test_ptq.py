"""Quantising: ModelOpt's own simulation, what is written of it, and what the server on a CPU makes of that."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.engine import Engine
from nemo_distill.compat.mamba_ssm import chunk_scan
from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.debug import corpora
from nemo_distill.errors import UserError
from nemo_distill.plan.quantisation import in_words
from nemo_distill.run.step import Step, mark_done, place
from nemo_distill.steps import quantize
from tests.nemo_distill.quantize.export_for_tests import SHAPE, export

TOKENIZER = Path(resolve_package_paths("package:debug/teacher"))


@pytest.fixture(scope="module")
def ptq(backend):
    """The module, imported once Megatron is prepared, whose layers ModelOpt looks up when it is first imported."""
    from nemo_distill.quantize import ptq

    return ptq


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """An export in which FP8 needs padding on both sides, and NVFP4 has a matrix without whole blocks."""
    return export(tmp_path_factory.mktemp("export"), tokenizer=TOKENIZER)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(3, SHAPE.vocab_size, (16, 64), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def simulated(ptq, source, tokens):
    """The model as ModelOpt simulates it, with its logits before and after."""
    model = ptq.load(source)
    with torch.inference_mode():
        before = model(tokens).logits
    ptq.calibrate(model, "fp8", "aggressive", tokens)
    with torch.inference_mode():
        return model, before, model(tokens).logits


@pytest.fixture(scope="module")
def written(ptq, source, simulated, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quantised") / "hf"
    ptq.write(folder, source, verify_checkpoint(source), ptq.quantised_weights(simulated[0]))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_ranges_are_the_same_again_on_other_threads_and_whatever_the_process_was_prepared_for(
    ptq, tokens, tmp_path, monkeypatch
):
    from transformers.models.nemotron_h import modeling_nemotron_h as upstream

    source, threads = export(tmp_path, tokenizer=TOKENIZER, dtype="bfloat16"), torch.get_num_threads()

    def quantised() -> dict[str, torch.Tensor]:
        model = ptq.load(source)
        ptq.calibrate(model, "fp8", "aggressive", tokens)
        return {name: tensor.float() for name, tensor in ptq.quantised_weights(model).tensors.items()}

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    def stand_in(*given, initial_states, **named) -> torch.Tensor:
        return chunk_scan(*given, **named)

    here = quantised()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        monkeypatch.setattr(upstream, "mamba2_chunk_scan", upstream.mamba2_chunk_scan.__wrapped__)
        assert same(quantised(), here)
        monkeypatch.setattr(
            upstream, "mamba2_chunk_scan", stand_in
        )  # which this process has, and which rounds otherwise
        assert not same(quantised(), here)
    finally:
        torch.set_num_threads(threads)


def test_mamba_and_mlp_are_in_fp8_with_their_scales_and_all_else_is_as_it_was(source, written):
    before, after = weights(source), weights(written)
    small = {name for name, tensor in after.items() if tensor.dtype == torch.float8_e4m3fn}
    kinds = {"M": ("in_proj", "out_proj"), "-": ("up_proj", "down_proj")}
    assert small == {
        f"backbone.layers.{i}.mixer.{name}.weight"
        for i, kind in enumerate(SHAPE.pattern)
        for name in kinds.get(kind, ())
    }
    scales = {name.replace(".weight", f".{scale}") for name in small for scale in ("weight_scale", "input_scale")}
    assert after.keys() == before.keys() | scales
    assert all(after[name].dtype == torch.float32 and after[name].shape == () for name in scales)
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - small)


def test_what_is_not_quantised_is_listed_by_whole_names_where_servers_look(ptq, written):
    told = json.loads((written / ptq.QUANT_CONFIG).read_text())["quantization"]
    config = json.loads((written / "config.json").read_text())["quantization_config"]
    assert (told["quant_algo"], told["kv_cache_quant_algo"]) == ("FP8", None)
    assert (config["quant_method"], config["quant_algo"], config["ignore"]) == (
        "modelopt",
        "FP8",
        told["exclude_modules"],
    )
    attention = [f"backbone.layers.3.mixer.{part}_proj" for part in "koqv"]
    convolutions = [f"backbone.layers.{i}.mixer.conv1d" for i, kind in enumerate(SHAPE.pattern) if kind == "M"]
    assert told["exclude_modules"] == sorted([*attention, *convolutions, "lm_head"])


def test_scaled_weights_are_those_that_modelopt_simulates(simulated, written):
    after, model = weights(written), simulated[0]
    for name, module in model.named_modules():
        if hasattr(module, "weight_quantizer") and module.weight_quantizer.is_enabled:
            stem = name.replace("model.", "backbone.", 1)
            ours = after[f"{stem}.weight"].float() * after[f"{stem}.weight_scale"]
            theirs = module.weight_quantizer(module.weight.detach())
            apart = ~torch.isclose(ours, theirs, rtol=1e-5, atol=0)
            assert apart.float().mean() < 1e-3  # halfway between two numbers in FP8, as the scale's last bit decides
            assert torch.allclose(ours, theirs, rtol=0.13, atol=1e-4)


def test_the_server_on_a_cpu_computes_what_modelopt_simulates(simulated, written, tokens):
    _, before, simulation = simulated
    engine = Engine.load(written, threads=1)
    with torch.inference_mode():
        served = engine.model(tokens).logits
    cost = (simulation - before).abs().mean()
    assert cost > 0
    assert (served - simulation).abs().mean() < 0.1 * cost
    # Weights in FP8 alone are another model: the inputs are rounded, too.
    for module in engine.model.modules():
        module._forward_pre_hooks.clear()
    with torch.inference_mode():
        assert (engine.model(tokens).logits - simulation).abs().mean() > 0.3 * cost


def test_the_conservative_recipe_leaves_mamba_alone(ptq, source, tokens):
    model = ptq.load(source)
    ptq.calibrate(model, "fp8", "conservative", tokens[:2])
    found = ptq.quantised_weights(model).sizes
    assert {name.rpartition(".")[2] for name in found} == {"up_proj", "down_proj"}


def test_nvfp4_packs_two_weights_a_byte_but_where_inputs_make_no_whole_blocks(ptq, source, tokens, tmp_path):
    model = ptq.load(source)
    ptq.calibrate(model, "nvfp4", "aggressive", tokens[:2])
    quantised = ptq.quantised_weights(model)
    ptq.write(tmp_path / "hf", source, verify_checkpoint(source), quantised)
    after = weights(tmp_path / "hf")
    assert {name.rpartition(".")[2] for name in quantised.sizes} == {"in_proj", "out_proj", "up_proj"}
    up = after["backbone.layers.1.mixer.up_proj.weight"]
    assert up.dtype == torch.uint8 and up.shape == (SHAPE.ffn_hidden_size, SHAPE.hidden_size // 2)
    assert after["backbone.layers.1.mixer.up_proj.weight_scale"].dtype == torch.float8_e4m3fn
    assert "backbone.layers.1.mixer.down_proj" in quantised.config["quantization"]["exclude_modules"]
    with pytest.raises(ValueError, match="as U8, and of quantised weights those in FP8 alone are computed with here"):
        verify_checkpoint(tmp_path / "hf", quantised=True)
    said = " ".join(in_words(SHAPE, "nvfp4", "aggressive"))
    assert "MLP down_proj (136 inputs) stays as it is" in said and "Hopper (H100, H200) has no FP4" in said


def test_a_matrix_that_saw_nothing_is_named_and_nothing_is_written(ptq, source, tokens):
    model = ptq.load(source)
    with torch.no_grad():
        model.model.layers[1].mixer.up_proj.weight.zero_()
    with pytest.raises(UserError, match=r"backbone.layers.1.mixer.up_proj has no range .* its weights reach 0"):
        ptq.calibrate(model, "fp8", "aggressive", tokens[:2])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda w: w.pop("backbone.layers.1.mixer.up_proj.weight_scale"),
            r"up_proj.weight in FP8 without .*weight_scale",
        ),
        (
            lambda w: w.pop("backbone.layers.1.mixer.up_proj.input_scale"),
            r"up_proj.weight in FP8 without .*input_scale",
        ),
    ],
)
def test_fp8_without_its_scales_is_refused(written, tmp_path, damage, sentence):
    shutil.copytree(written, tmp_path / "hf")
    found = weights(tmp_path / "hf")
    damage(found)
    save_file(found, tmp_path / "hf/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=sentence):
        verify_checkpoint(tmp_path / "hf", quantised=True)


def test_fp8_of_which_the_config_says_nothing_is_refused_and_so_is_fp8_where_none_is_expected(written, tmp_path):
    shutil.copytree(written, tmp_path / "hf")
    with pytest.raises(ValueError, match="its weights are quantised and are not read here"):
        verify_checkpoint(tmp_path / "hf")  # as a teacher is
    path = tmp_path / "hf/config.json"
    config = json.loads(path.read_text())
    del config["quantization_config"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quant_algo=None, and .* is in FP8: a server that goes by it"):
        verify_checkpoint(tmp_path / "hf", quantised=True)


def test_a_scale_that_is_none_is_refused_before_anything_is_answered(written, tmp_path):
    shutil.copytree(written, tmp_path / "hf")
    found = weights(tmp_path / "hf")
    found["backbone.layers.1.mixer.up_proj.input_scale"].zero_()
    save_file(found, tmp_path / "hf/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"up_proj.input_scale as \[0.0\], and a scale is one number above 0"):
        Engine.load(tmp_path / "hf", threads=1)


@pytest.fixture
def spec(source, tmp_path):
    """The step behind an export and a world that are done."""
    steps = [
        Step("world", "nemo_distill.steps.debug_world", {}),
        Step("export-1M", "nemo_distill.steps.export", {}),
        Step(
            "quantize-1M",
            "nemo_distill.steps.quantize",
            {
                "format": "fp8",
                "recipe": "aggressive",
                "calibration": {
                    "sources": [{"name": "stem", "field": "messages", "files": ["world:corpora/stem.jsonl"]}],
                    "sequences": 4,
                    "seq_length": 32,
                },
            },
            ("export-1M", "world"),
        ),
    ]
    specs = place(steps, runs=tmp_path)
    corpora.write(specs["world"].folder / "corpora", seed=0, counts={"stem": 40})
    shutil.copytree(source, specs["export-1M"].folder / "hf")
    for name in ("world", "export-1M"):
        mark_done(specs[name].folder)
    specs["quantize-1M"].save()
    return specs["quantize-1M"]


def test_the_step_writes_a_whole_checkpoint_over_what_a_cut_attempt_left(ptq, spec, monkeypatch, caplog):
    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ptq, "write_tensors", cut)  # config.json and tokenizer are there by then
        with pytest.raises(KeyboardInterrupt):
            quantize.main(spec)
    assert (spec.folder / "hf/config.json").exists() and not (spec.folder / "quantised.json").exists()
    (spec.folder / "hf/model-00001-of-00002.safetensors").write_bytes(b"half")
    with caplog.at_level("INFO"):
        quantize.main(spec)
    verify_checkpoint(spec.folder / "hf", quantised=True)
    assert not list((spec.folder / "hf").glob("*-of-*"))
    record = json.loads((spec.folder / "quantised.json").read_text())
    assert record["matrices"]["backbone.layers.0.mixer.in_proj"] == [262, 80]
    elements = sum(rows * columns for rows, columns in record["matrices"].values())
    saved = record["bytes"]["before"] - record["bytes"]["after"]
    assert 3 * elements - 5_000 < saved < 3 * elements, "three bytes of float32's four, less scales and names"
    assert "pads as it loads: Mamba in_proj from 262 x 80 to 272 x 80, MLP up_proj from 136 x 80 to 144" in caplog.text


def test_an_export_that_is_quantised_already_and_text_that_runs_out_are_refused_in_a_sentence(spec, written):
    export = spec.upstream["export-1M"] / "hf"
    shutil.rmtree(export)
    shutil.copytree(written, export)
    with pytest.raises(UserError, match="its weights are quantised and are not read here"):
        quantize.main(spec)
