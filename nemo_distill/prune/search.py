"""The search for candidates: ModelOpt's, and a second one among the shapes that the chip likes.

ModelOpt's `mcore_minitron` ranks activations once, lists every shape under the parameter target and scores the largest
few. `TwoSearches` then has it score the largest few that pass a `ChipFilter` as well, on the same ranking and in the
same state file; a candidate of both searches is scored once. ModelOpt takes a list of candidates it finds in its state
for its own: the second search is that list, so nothing in ModelOpt is changed.
"""

import math

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
from nemo_distill.prune.fp8_shapes import ChipFilter, resized

MODE = "mcore_minitron_two_searches"
"""What ModelOpt calls the mode that searches twice."""


def no_friendly(keep: ChipFilter, target: float, closest: tuple[Shape, list[str]] | None) -> str:
    """The sentence for a filter under which no candidate is left."""
    near = f" The largest under the target fails because {'; '.join(closest[1])}." if closest else ""
    return (
        f"no candidate of at most {target / 1e6:.3f}M parameters has all matrices in multiples of {keep.multiple} at "
        f"tensor parallel {keep.tensor_parallel}.{near} Lower prune.tensor_parallel or take prune.chip_friendly=report."
    )


class TwoSearches(MCoreMinitronSearcher):
    """ModelOpt's search, then one among what passes `config['chip_filter']`; without a filter, ModelOpt's alone."""

    constraints: dict[str, float]

    @property
    def default_search_config(self) -> SearchConfig:
        """ModelOpt's, and: `shape`, the teacher's; `chip_filter`; `chip_required`, whether a friendly one wins."""
        return {**super().default_search_config, "shape": None, "chip_filter": None, "chip_required": False}

    def search_best_arch_by_params(self) -> dict:
        """The sizes of the student."""
        if self.config["chip_filter"] is None:
            return super().search_best_arch_by_params()
        target, top_k = self.constraints["params"], self.config["top_k"]
        second = math.nextafter(target, math.inf)  # the key of the second search in ModelOpt's state
        searches = self.top_k_candidates_per_constraint
        listed = searches[second] if second in searches else self._friendly(target)[:top_k]
        best = super().search_best_arch_by_params()
        if not listed:
            return best
        if second not in searches:
            known = {_key(candidate): candidate for candidate in searches[target]}
            searches[second] = [known.get(_key(candidate), candidate) for candidate in listed]
            self.save_search_checkpoint()
        self.constraints, self.config["top_k"] = {"params": second}, len(listed)
        friendly = super().search_best_arch_by_params()
        return friendly if self.config["chip_required"] else best

    def _friendly(self, target: float) -> list[CandidateSubnet]:
        """Every candidate under the target that passes the filter, the largest first."""
        shape, keep = self.config["shape"], self.config["chip_filter"]
        choices = {name.split(".")[-1]: hp.choices for name, hp in named_hparams(self.model, configurable=True)}
        space = self._generate_search_space_combos(
            choices,
            self.config["max_width_pruning"],
            self.config["max_depth_pruning"],
            [name for name in self.config["hparams_to_skip"] or () if name in choices],
        )
        shapes = [(sizes, resized(shape, sizes, self.sorted_layers)) for sizes in space]
        under = sorted(
            ((sizes, one, one.parameters()) for sizes, one in shapes if one.parameters() <= target),
            key=lambda found: found[2],
            reverse=True,
        )
        friendly = [
            CandidateSubnet(sizes, parameters, None) for sizes, one, parameters in under if not keep.misfits(one)
        ]
        if not friendly and self.config["chip_required"]:
            closest = (under[0][1], keep.misfits(under[0][1])) if under else None
            raise UserError(no_friendly(keep, target, closest))
        return friendly


def _key(candidate: CandidateSubnet) -> tuple:
    return tuple(sorted(candidate.ss_config.items()))


def register() -> None:
    """Let ModelOpt know the mode that searches twice."""
    PRUNING_MODE.apply(TwoSearchesMode)


class TwoSearchesMode(MCoreMinitronModeDescriptor):
    """ModelOpt's `mcore_minitron` with `TwoSearches`."""

    @property
    def name(self) -> str:
        """As `mtp.prune` is told."""
        return MODE

    @property
    def search_algorithm(self) -> type[BaseSearcher]:
        """Searches twice."""
        return TwoSearches
