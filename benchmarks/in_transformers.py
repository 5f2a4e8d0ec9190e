"""What transformers alone makes of exported checkpoints, for the benchmark of exports and the tests.

with InTransformers() as theirs:
    logits = theirs.logits(folder, tokens)
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import torch

THEIRS = """
import json, sys, torch
# Transformers' own PyTorch: these know no CPU, and on a GPU Triton would try variants of their kernels for minutes.
sys.modules["mamba_ssm"] = sys.modules["causal_conv1d"] = None
from transformers import NemotronHForCausalLM
for line in sys.stdin:
    folder, given, out, backward = json.loads(line)
    model = NemotronHForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens, gradients = torch.load(given), {}
    with torch.set_grad_enabled(backward):
        logits = model(tokens).logits
    if backward:
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
        # by the names in the file, of which the first part is another in memory
        gradients = {n.replace("model.", "backbone.", 1): w.grad for n, w in model.named_parameters()}
    assert "nemo_distill" not in sys.modules
    torch.save((logits.detach(), gradients), out)
    print("saved", flush=True)
"""


class InTransformers:
    """A process that has not seen our backend, and reads checkpoints one after another.

    In this process transformers would find our stand-in for mamba-ssm and call it: we would be compared with ourselves.
    """

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", THEIRS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def logits(self, folder: Path, tokens: torch.Tensor) -> torch.Tensor:
        """The checkpoint's, in float32."""
        return self._asked(folder, tokens, backward=False)[0]

    def gradients(self, folder: Path, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of the mean loss of the next token (the first one after the last), by the names in the file."""
        return self._asked(folder, tokens, backward=True)[1]

    def both(self, folder: Path, tokens: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and gradients at once."""
        return self._asked(folder, tokens, backward=True)

    def _asked(self, folder: Path, tokens: torch.Tensor, *, backward: bool) -> tuple:
        assert self._process.stdin and self._process.stdout
        with tempfile.TemporaryDirectory() as scratch:
            given, out = Path(scratch, "tokens.pt"), Path(scratch, "out.pt")
            torch.save(tokens, given)
            print(json.dumps([str(folder), str(given), str(out), backward]), file=self._process.stdin, flush=True)
            while (line := self._process.stdout.readline()) != "saved\n":
                if not line:
                    raise RuntimeError(f"transformers could not read {folder}: its process ended")
            return torch.load(out)
