"""The search for the student: ModelOpt's `mcore_minitron`, with candidates counted from their shapes.

ModelOpt ranks activations once, lists every shape under the parameter target and scores the largest few. To list them
it gives the model every candidate's size in turn and adds up its parameters, 8 to 13 candidates a second: half an hour
for the 17,472 of the study's teacher. `Search` counts the same candidates at once (`plan.candidates`), in milliseconds,
also by the memory to serve them, and hands ModelOpt the list to score. With an `Alignment` the largest FP8-aligned
candidates are on that list as well.

ModelOpt takes a list that it finds in its state for its own, so nothing in ModelOpt is changed.
"""

import functools
import itertools
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
from nemo_distill.plan.candidates import Bounds, Candidates, cut, layers_of, parameters
from nemo_distill.prune.fp8_shapes import Alignment, resized

MODE = "mcore_minitron_counted"
"""What ModelOpt calls the mode."""


class Search(MCoreMinitronSearcher):
    """ModelOpt's search over candidates listed here: the largest, and the largest aligned if `alignment` is given."""

    constraints: dict[str, float]
    top_k_candidates_per_constraint: dict[float, list[CandidateSubnet]]

    @property
    def default_search_config(self) -> SearchConfig:
        """ModelOpt's, and: `shape`, the teacher's; `bounds`; `alignment`; `aligned_only`, whether the student has to
        be; `say`, which is told how much of what is done."""
        own = {"shape": None, "bounds": None, "alignment": None, "aligned_only": False, "say": lambda *_: None}
        return {**super().default_search_config, **own}

    def search_best_arch_by_params(self) -> dict[str, int]:
        """The sizes of the student."""
        assert self.sorted_layers is not None
        target, count = float(self.constraints["params"]), self.config["top_k"]
        largest, aligned = self.listed(count)
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

    def listed(self, count: int) -> tuple[list[CandidateSubnet], list[CandidateSubnet]]:
        """The `count` largest candidates within the bounds, and the largest aligned, if alignment is asked for.

        None of them is without an attention layer, without which transformers generates nothing.
        """
        shape, alignment, bounds = self.config["shape"], self.config["alignment"], self.config["bounds"]
        found = Candidates(shape, self.axes())
        layers = found.kept(self.sorted_layers)
        order = found.order(bounds, layers)
        order = order[layers["*"][order] > 0]
        if not len(order):
            raise UserError(none_within(bounds, self.config))
        measured = parameters(found, layers)

        @functools.cache  # one that is in both lists is scored once
        def candidate(place: int) -> CandidateSubnet:
            return CandidateSubnet(found.sizes(place), _as_modelopt_counts(measured[place]), None)

        def misfits(place: int) -> list[str]:
            return alignment.misfits(resized(shape, found.sizes(place), self.sorted_layers))

        largest = [candidate(place) for place in order[:count]]
        if alignment is None:
            return largest, []
        places = itertools.islice((place for place in order if not misfits(place)), count)
        aligned = [candidate(place) for place in places]
        if not aligned and self.config["aligned_only"]:
            raise UserError(none_aligned(alignment, bounds, misfits(order[0])))
        return largest, aligned

    def eval_score(self, silent: bool = True) -> float:
        """A candidate's score; how many have one is said before and after."""
        every = [one for listed in self.top_k_candidates_per_constraint.values() for one in listed]
        done, say = sum(one.score is not None for one in every), self.config["say"]
        say(done, len(every), "candidates")
        score = super().eval_score(silent)
        say(done + 1, len(every), "candidates")
        return score

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

    def axes(self) -> dict[str, list[int]]:
        """The sizes that the search goes over, by axis, in the order in which ModelOpt draws them up."""
        choices = {name.split(".")[-1]: hp.choices for name, hp in named_hparams(self.model, configurable=True)}
        return cut(
            choices,
            max_width=self.config["max_width_pruning"],
            max_depth=self.config["max_depth_pruning"],
            skip=self.config["hparams_to_skip"] or (),
        )


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


def none_within(bounds: Bounds, config: SearchConfig) -> str:
    """The sentence for bounds that no candidate keeps to."""
    shape = config["shape"]
    own = bounds.measured(shape, layers_of(shape))
    listed = " and ".join(f"{bounds.figure(name, own[name])}" for name in own)
    return (
        f"no candidate has at most {bounds.in_words}; the teacher has {listed}. "
        f"The search removes at most {config['max_width_pruning']:.0%} of a width's choices and "
        f"{config['max_depth_pruning']:.0%} of the layers: raise {bounds.settings}, prune.max_width or "
        "prune.max_depth, or name the sizes with prune.export_config."
    )


def none_aligned(alignment: Alignment, bounds: Bounds, misfits: list[str]) -> str:
    """The sentence for an alignment that no candidate has; `misfits` are those of the largest candidate."""
    return (
        f"no candidate of at most {bounds.in_words} has {alignment.in_words}. The largest has not because "
        f"{'; '.join(misfits)}. Lower prune.tensor_parallel or take prune.chip_friendly=report."
    )


def _as_modelopt_counts(parameters: Any) -> float:
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
