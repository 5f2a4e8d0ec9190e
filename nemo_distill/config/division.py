"""Whether ranks share out a batch evenly, and the nearest settings with which they do.

>>> from nemo_distill.config.division import check_layout
>>> check_layout(ranks=768, tensor_parallel=8, global_batch_size=768, micro_batch_size=4)
"""

import math

from nemo_distill.errors import UserError


def check_layout(*, ranks: int, tensor_parallel: int, global_batch_size: int, micro_batch_size: int) -> None:
    """Raise `UserError`, with what would do, when ranks or the batch (in sequences) cannot be shared out evenly."""
    if ranks % tensor_parallel:
        fits = [n for n in range(1, ranks + 1) if ranks % n == 0]
        near = min(fits, key=lambda n: abs(n - tensor_parallel))
        raise UserError(
            f"layout.tensor_parallel={tensor_parallel} does not divide {ranks} ranks: {near} is the nearest that does."
        )
    check_batch(copies=ranks // tensor_parallel, global_batch_size=global_batch_size, micro_batch_size=micro_batch_size)


def check_batch(*, copies: int, global_batch_size: int, micro_batch_size: int) -> None:
    """Raise `UserError`, with the nearest that would do, when so many copies of the model cannot share the batch."""
    at_once = copies * micro_batch_size
    if global_batch_size % at_once == 0:
        return
    share, rest = divmod(global_batch_size, copies)
    if rest:
        near = f"distill.global_batch_size={max(1, round(global_batch_size / at_once)) * at_once}"
    else:
        divisors = [size for size in range(1, share + 1) if share % size == 0]
        near = f"distill.micro_batch_size={min(divisors, key=lambda size: abs(math.log(size / micro_batch_size)))}"
    raise UserError(
        f"distill.global_batch_size={global_batch_size} does not divide among {copies} copies of the model in micro "
        f"batches of {micro_batch_size}; {near} would do. Copies are layout.nodes x layout.gpus_per_node / "
        "layout.tensor_parallel."
    )
