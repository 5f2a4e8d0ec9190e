"""Documents of packed sequences kept apart, against transformers' NemotronHForCausalLM, which reads them one by one."""

import pytest
import torch

from nemo_distill.nemotron_h import mapping
from nemo_distill.nemotron_h.documents import FEWEST, Documents, current, kept_apart
from nemo_distill.nemotron_h.model import Runtime, checkpoint_name, recompute_mlp
from tests.nemo_distill.nemotron_h.test_model import SHAPES, random_checkpoint

PACKED = ([1, 2, 70, 3, 52], [33, 95])
"""Tokens of each document, in two sequences: one of them alone, some fewer than the convolution is wide."""
PACKED_ON_GPU = ([1, 2, 130, 3, 120], [33, 223])


def starts(packed) -> list[torch.Tensor]:
    return [torch.tensor([sum(row[:at]) for at in range(len(row))]) for row in packed]


def test_documents_are_numbered_in_their_sequence_and_bounded_end_to_end():
    made = Documents.of(starts([[1, 3, 2], [6]]), length=6)
    assert made.numbers.tolist() == [[0, 1, 1, 1, 2, 2], [0] * 6] and made.numbers.dtype == torch.int32
    assert made.bounds.tolist() == [0, 1, 4, 6] + [12] * (FEWEST - 3) and made.bounds.dtype == torch.int32
    sees = ~made.mask[0, 0]
    assert sees.sum(1).tolist() == [1, 1, 2, 3, 1, 2] and sees[3].tolist() == [False, True, True, True, False, False]
    many = Documents.of([torch.arange(40)], length=40)
    assert len(many.bounds) == 64 + 1 and many.bounds[:41].tolist() == list(range(41))


def test_a_batch_tells_its_documents_as_nemo_tells_them():
    told = torch.tensor([[0, 1, 4, 6, -1, -1], [0, 6, -1, -1, -1, -1]], dtype=torch.int32)
    counts = torch.tensor([[4], [2]])
    batch = {"tokens": torch.zeros(2, 6), "cu_seqlens": told, "cu_seqlens_argmin": counts}
    made = Documents.in_batch(batch)
    assert made.numbers.tolist() == [[0, 1, 1, 1, 2, 2], [0] * 6]
    sample = {name: value[0] for name, value in batch.items()}
    cut = Documents.in_sample(sample, length=4, device=torch.device("cpu"))
    assert cut is not None and cut.numbers.tolist() == [[0, 1, 1, 1]]
    assert Documents.in_sample({"tokens": batch["tokens"]}, length=4, device=torch.device("cpu")) is None


def test_they_are_kept_apart_inside_and_no_longer_after_an_error():
    made = Documents.of(starts([[2]]), length=2)
    with pytest.raises(ZeroDivisionError), kept_apart(made):
        assert current() is made
        _ = 1 / 0
    assert current() is None


def world(theirs, folder, shape, tokenizer_folder, packed) -> dict:
    """A checkpoint, two sequences of tokens, and what transformers makes of their documents, each by itself."""
    state = random_checkpoint(folder, shape, tokenizer_folder)
    draw = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, shape.vocab_size, (len(packed), sum(packed[0])), generator=draw)
    logits, gradients, labels = [], {}, []
    for row, sizes in zip(tokens, packed, strict=True):
        for document in row.split(sizes):
            made, found = theirs.both(folder, document[None])
            logits.append(made[0])
            labels.append(document.roll(-1))
            for name, value in found.items():
                gradients[name] = gradients.get(name, 0) + value * len(document) / tokens.numel()
    return {
        "state": mapping.to_megatron(state, shape),
        "tokens": tokens,
        "labels": torch.cat(labels).view_as(tokens),
        "logits": torch.cat(logits).view(*tokens.shape, -1),
        "gradients": mapping.to_megatron(gradients, shape),
    }


def computed(module, world, documents, device="cpu") -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradients of the mean loss of a document's next token (the first one after the last)."""
    tokens, labels = world["tokens"].to(device), world["labels"].to(device)
    positions = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
    module.zero_grad()
    with kept_apart(documents):
        with torch.no_grad():
            logits = module.eval()(tokens, positions, None).float().cpu()
        loss = module.train()(tokens, positions, None, labels=labels).mean()
    loss.backward()
    weights = dict(module.named_parameters())
    found = {name: p.grad if p.grad is not None else p.main_grad for name, p in weights.items()}
    return logits, {checkpoint_name(name, module): gradient.float().cpu() for name, gradient in found.items()}


@pytest.mark.slow
def test_logits_and_gradients_are_those_of_documents_one_by_one(backend, in_transformers, tokenizer_folder, tmp_path):
    from nemo_distill.nemotron_h import documents

    shape = SHAPES["as the debug teacher"]
    given = world(in_transformers, tmp_path / "hf", shape, tokenizer_folder, PACKED)
    runtime = Runtime(seq_length=128)
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=tokenizer_folder, runtime=runtime)
        backend.load(module, given["state"])
        as_ever, _ = computed(module, given, None)
        documents.install()
        logits, gradients = computed(module, given, Documents.of(starts(PACKED), length=128))
        assert torch.equal(as_ever, computed(module, given, None)[0]), "one document is what it was before"
        recompute_mlp(module)
        _, again = computed(module, given, Documents.of(starts(PACKED), length=128))
    assert (logits - given["logits"]).abs().max() < 1e-4 < (as_ever - given["logits"]).abs().max()
    assert gradients.keys() == given["gradients"].keys()
    for name, wanted in given["gradients"].items():
        assert (gradients[name] - wanted).norm() < 1e-4 * wanted.norm(), name
        assert torch.equal(again[name], gradients[name]), name


@pytest.fixture(scope="module")
def on_gpu(in_transformers, tokenizer_folder, tmp_path_factory):
    from tests.nemo_distill.nemotron_h.test_gpu import SHAPE

    return world(in_transformers, tmp_path_factory.mktemp("gpu") / "hf", SHAPE, tokenizer_folder, PACKED_ON_GPU)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("how", ["local spec", "their kernels", "our kernels", "our kernels, one sequence", "FP8"])
def test_on_a_gpu_they_are_so_within_the_precision(backend, on_gpu, how, tokenizer_folder, monkeypatch):
    """Transformer Engine's packed attention, causal-conv1d, and either mamba-ssm's scan or our own kernels."""
    from megatron.core.ssm.mamba_mixer import MambaMixer

    from nemo_distill.kd import precision
    from nemo_distill.nemotron_h import documents
    from nemo_distill.nemotron_h.kernels import mixer
    from tests.nemo_distill.nemotron_h.test_gpu import BF16, FP8, SHAPE, keep_norms, relative

    keep_norms(monkeypatch)
    monkeypatch.setattr(MambaMixer, "ssm_training", MambaMixer.ssm_training)
    documents.install()
    if how not in ("local spec", "their kernels"):
        mixer.install()
    given, packed = on_gpu, PACKED_ON_GPU
    if how == "our kernels, one sequence":
        given, packed = {**given, **{name: given[name][:1] for name in ("tokens", "labels", "logits")}}, packed[:1]
    layer_spec = "local" if how == "local spec" else "transformer_engine"
    runtime = Runtime(precision="bf16-mixed", layer_spec=layer_spec, seq_length=256)
    with backend.session(runtime) as session:
        module = backend.build(session, SHAPE, tokenizer=tokenizer_folder, runtime=runtime)
        backend.load(module, given["state"])
        if how == "FP8":
            precision.student_in_fp8(module)
        as_ever, _ = computed(module, given, None, device="cuda")
        told = Documents.of([row.cuda() for row in starts(packed)], length=256)
        logits, gradients = computed(module, given, told, device="cuda")
    bound = FP8 if how == "FP8" else BF16
    assert relative(logits, given["logits"]) < bound < relative(as_ever, given["logits"])
    if how != "our kernels, one sequence":
        least = 0.9 if how == "FP8" else 0.998
        for name, wanted in given["gradients"].items():
            cosine = torch.nn.functional.cosine_similarity(gradients[name].flatten(), wanted.flatten(), dim=0).item()
            assert least < cosine < 1 - 1e-7, (name, cosine)
