"""The search for the student: ModelOpt's `mcore_minitron`, with candidates counted from their shapes.

ModelOpt ranks activations once, lists every shape under the parameter target and scores the largest few. To list them
it gives the model every candidate's size in turn and adds up its parameters, 8 to 13 candidates a second: half an hour
for the 17,472 of the study's teacher. `Search` counts the same candidates by `Shape.parameters`, in a second, and hands
ModelOpt the list to score. With an `Alignment` the largest FP8-aligned candidates are on that list as well.

ModelOpt takes a list that it finds in its state for its own, so nothing in ModelOpt is changed.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from modelopt.torch.opt.searcher import BaseSearcher, SearchConfig
from modelopt.torch.opt.utils import named_hparams
from modelopt.torch.prune.plugins.mcore_minitron import (
    CandidateSubnet,
    MCoreMinitronModeDescriptor,
    MCoreMinitronSearcher,
)

from nemo_distill.compat.upstream_fixes import PRUNING_MODE
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.prune.fp8_shapes import Alignment, resized

MODE = "mcore_minitron_counted"
"""What ModelOpt calls the mode."""


def largest_under(
    target: float, sizes: list[dict[str, int]], shape: Shape, ranked_layers: list[int]
) -> list[CandidateSubnet]:
    """Every candidate of at most `target` parameters, the largest first, as ModelOpt lists them.

    Args:
        target: Parameters.
        sizes: Of every candidate of the grid, in ModelOpt's order, in which equal counts stay.
        shape: The teacher's.
        ranked_layers: Its layers, numbered from 1, the most important first.
    """
    counted = [(one, _as_modelopt_counts(resized(shape, one, ranked_layers).parameters())) for one in sizes]
    under = [CandidateSubnet(one, parameters, None) for one, parameters in counted if parameters <= target]
    return sorted(under, key=lambda candidate: candidate.params, reverse=True)


class Search(MCoreMinitronSearcher):
    """ModelOpt's search over candidates listed here: the largest, and the largest aligned if `alignment` is given."""

    constraints: dict[str, float]
    top_k_candidates_per_constraint: dict[float, list[CandidateSubnet]]

    @property
    def default_search_config(self) -> SearchConfig:
        """ModelOpt's, and: `shape`, the teacher's; `alignment`; `aligned_only`, whether the student has to be."""
        return {**super().default_search_config, "shape": None, "alignment": None, "aligned_only": False}

    def search_best_arch_by_params(self) -> dict[str, int]:
        """The sizes of the student."""
        assert self.sorted_layers is not None
        target, count = float(self.constraints["params"]), self.config["top_k"]
        every = largest_under(target, self.grid(), self.config["shape"], self.sorted_layers)
        every = [one for one in every if self._has_attention(one)]
        if not every:
            raise UserError(none_under(target, self.config))
        largest, aligned = every[:count], self._aligned(every, target)[:count]
        listed = largest + [candidate for candidate in aligned if candidate not in largest]
        for before in self.top_k_candidates_per_constraint.values():  # of an attempt that was cut
            scores = {_key(candidate): candidate.score for candidate in before}
            for candidate in listed:
                candidate.score = scores.get(_key(candidate), candidate.score)
        self.top_k_candidates_per_constraint = {target: listed}
        self.config["top_k"] = len(listed)
        super().search_best_arch_by_params()
        chosen = max(aligned if self.config["aligned_only"] else largest, key=lambda candidate: candidate.score)
        return chosen.ss_config

    def load_search_checkpoint(self, strict: bool = True) -> bool:
        """Take up the state that is kept, read by `read_state` (upstream: by torch.load with `weights_only=False`)."""
        kept = (self._get_checkpoint_path(), self.config["checkpoint"])  # a rank's own, or that of a search on one
        file = next((Path(path) for path in kept if path and Path(path).exists()), None)
        if file is None:
            return False
        state = read_state(file)
        if strict and state.keys() != self.state_dict().keys():
            raise UserError(f"{file} is of another search: remove it.")
        for key, value in self.default_state_dict.items():
            setattr(self, key, state.get(key, value))
        return True

    def grid(self) -> list[dict[str, int]]:
        """The sizes of every candidate, as ModelOpt draws them up."""
        choices = {name.split(".")[-1]: hp.choices for name, hp in named_hparams(self.model, configurable=True)}
        return self._generate_search_space_combos(
            choices,
            self.config["max_width_pruning"],
            self.config["max_depth_pruning"],
            [name for name in self.config["hparams_to_skip"] or () if name in choices],
        )

    def _has_attention(self, candidate: CandidateSubnet) -> bool:
        """Whether it keeps an attention layer, without which transformers generates nothing."""
        assert self.sorted_layers is not None
        layers = candidate.ss_config.get("num_layers", len(self.sorted_layers))
        return any(self.config["shape"].pattern[number - 1] == "*" for number in self.sorted_layers[:layers])

    def _aligned(self, every: list[CandidateSubnet], target: float) -> list[CandidateSubnet]:
        """Those of `every` that are aligned; none where nothing is asked of them."""
        alignment, shape = self.config["alignment"], self.config["shape"]
        if alignment is None:
            return []

        def misfits(candidate: CandidateSubnet) -> list[str]:
            return alignment.misfits(resized(shape, candidate.ss_config, self.sorted_layers))

        found = [candidate for candidate in every if not misfits(candidate)]
        if not found and self.config["aligned_only"]:
            raise UserError(none_aligned(alignment, target, misfits(every[0])))
        return found


def read_state(file: Path) -> dict[str, Any]:
    """What a search has kept in `file`: tensors, plain values and candidates, and nothing that is called.

    Raises `UserError` for anything else, RuntimeError or EOFError for a file that was cut short.
    """
    with torch.serialization.safe_globals([CandidateSubnet]):
        try:
            state = torch.load(file, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{file} holds what no search keeps, and is not read: remove it, and the search starts anew. "
                f"{str(error).splitlines()[-1][:200]}"
            ) from None
    if not isinstance(state, dict):
        raise UserError(f"{file} holds no state of a search: remove it.")
    return state


def none_under(target: float, config: SearchConfig) -> str:
    """The sentence for a target under which there is no candidate."""
    return (
        f"no candidate has at most {target:,.0f} parameters; the teacher has {config['shape'].parameters():,}. "
        f"The search removes at most {config['max_width_pruning']:.0%} of a width's choices and "
        f"{config['max_depth_pruning']:.0%} of the layers: raise prune.parameters, prune.max_width or prune.max_depth, "
        "or name the sizes with prune.export_config."
    )


def none_aligned(alignment: Alignment, target: float, misfits: list[str]) -> str:
    """The sentence for an alignment that no candidate has; `misfits` are those of the largest candidate."""
    return (
        f"no candidate of at most {target:,.0f} parameters has {alignment.in_words}. The largest has not because "
        f"{'; '.join(misfits)}. Lower prune.tensor_parallel or take prune.chip_friendly=report."
    )


def _as_modelopt_counts(parameters: int) -> float:
    """ModelOpt adds a count up over ranks in float32, which rounds to 512 at 7B, and compares and sorts by that."""
    return torch.tensor([parameters], dtype=torch.float32).item()


def _key(candidate: CandidateSubnet) -> tuple[Any, ...]:
    return tuple(sorted(candidate.ss_config.items()))


def register() -> None:
    """Let ModelOpt know the mode."""
    PRUNING_MODE.apply(SearchMode)


class SearchMode(MCoreMinitronModeDescriptor):
    """ModelOpt's `mcore_minitron` with `Search`."""

    @property
    def name(self) -> str:
        """As `mtp.prune` is told."""
        return MODE

    @property
    def search_algorithm(self) -> type[BaseSearcher]:
        """`Search`."""
        return Search
