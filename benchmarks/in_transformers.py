"""What transformers alone makes of an exported checkpoint, for the benchmark of exports and the tests."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

THEIRS = """
import sys, torch
# Transformers' own PyTorch: these know no CPU, and on a GPU Triton would try variants of their kernels for minutes.
sys.modules["mamba_ssm"] = sys.modules["causal_conv1d"] = None
from transformers import NemotronHForCausalLM
model = NemotronHForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
assert "nemo_distill" not in sys.modules
tokens = torch.load(sys.argv[2])
gradients = {}
with torch.set_grad_enabled(bool(sys.argv[4])):
    logits = model(tokens).logits
if sys.argv[4]:
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    # by the names in the file, of which the first part is another in memory
    gradients = {n.replace("model.", "backbone.", 1): w.grad for n, w in model.named_parameters()}
torch.save((logits.detach(), gradients), sys.argv[3])
"""


def in_transformers(folder: Path, tokens: torch.Tensor, *, gradients: bool = False):
    """Logits in float32, and gradients, of the checkpoint in a process that has not seen our backend.

    In this process transformers would find our stand-in for mamba-ssm and call it: we would be compared with ourselves.
    Gradients are of the mean loss of the next token (the first one after the last), by the names in the file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch, "tokens.pt"), Path(scratch, "out.pt")
        torch.save(tokens, given)
        subprocess.run([sys.executable, "-c", THEIRS, folder, given, out, "gradients" if gradients else ""], check=True)
        return torch.load(out)
