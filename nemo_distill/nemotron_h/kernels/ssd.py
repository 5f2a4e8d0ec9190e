"""Mamba-2's scan on a GPU with its states in memory once, in the inputs' precision: both directions, in Triton.

    y, entering = forward(x, dt, cumulative, B, C, D)
    grad_dt, grad_decay, grad_skip = backward(dy, x, dt, cumulative, B, C, D, entering, dx, dB, dC)

mamba-ssm (arXiv:2405.21060, section 6) computes the states of all chunks in float32, adds them up along the sequence in
a second kernel and the gradients in two more, so that states are written and read four times a pass. Here one kernel
takes a head from the first chunk to the last with the state in registers, and back with its gradient. All else runs for
all chunks at once; the output and the gradients of B and C are made of a group's heads one after the other, while what
the heads share or are summed to stays on the chip. Of the gradients' matrix G the sum over a group's heads is enough.

With y the output, h the state before a chunk, dh the gradient of the one behind it, a the sum of A dt from the chunk's
start, and P, G the matrices of a chunk,

    y_t  = exp(a_t) C_t h + sum_s P_ts dt_s x_s + D x_t,         P_ts = (C_t B_s) exp(a_t - a_s) for s <= t
    dx_s = dt_s (exp(a_end - a_s) B_s dh + sum_t P_ts dy_t) + D dy_s
    dC_t = exp(a_t) dy_t h + sum_s G_ts B_s,                      G_ts = (dy_t x_s) dt_s exp(a_t - a_s)
    dB_s = exp(a_end - a_s) dt_s x_s dh + sum_t G_ts C_t

Factors of matrix products are in the inputs' precision, sums and the carried state in float32, as in mamba-ssm. The
gradient of a is made from float32 products alone: it is a sum of differences that all but cancel.

Shapes: x, y (batch, length, heads, head dim); dt and `cumulative`, which is a, (batch, heads, chunks, chunk), float32;
B, C (batch, length, groups, state); D (heads); `entering`, the states before all chunks, (batch, chunks, heads, state,
head dim). Heads of a group lie side by side. Where nothing else is said, the last dimension alone is contiguous.

All that passes from one token to another does so by exp of a difference of a. Where `apart` is taken off a, it leaps so
far down between two documents that exp of what spans the leap is 0: no state, and no gradient, gets across.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

CHUNK = 128
"""Tokens per chunk. It is no part of the result but for rounding; what a model's config says is for mamba-ssm."""
APART = 104.0
"""What is taken off a at the first token of a document: the least of which exp is 0 in float32, as a's digits go by."""
STATES = {"num_warps": 8, "num_stages": 3}
OUTPUT = {"num_warps": 8, "num_stages": 3}
INPUT = {"ROWS": 64, "num_warps": 4, "num_stages": 1, "maxnreg": 168}
PAIRS = {"num_warps": 8, "num_stages": 3, "maxnreg": 128}
GROUP = {"ROWS": 128, "num_warps": 8, "num_stages": 3}
COLLECT = {"BLOCK": 2048, "num_warps": 8}
"""How each kernel is compiled, and how many of a chunk's tokens (`ROWS`) a program takes: the fastest of some ten each
at the study's shapes on an H200. Registers are limited so that more programs share a multiprocessor: with 168 three of
4 warps, with 128 two of 8. No tile is narrower than 64, for Triton 3.6 then reads past its shared memory on Hopper (its
issue 11366)."""
PROGRAMS = 256
"""How many programs of `_scan_output` keep a GPU busy: if there are fewer groups and chunks, groups are shared out."""


def fits(length: int, head_dim: int, state: int) -> bool:
    """Whether this scan computes sequences of `length` tokens with heads and states of these sizes."""
    return length % CHUNK == 0 and state in (64, 128) and head_dim <= 128


def apart(numbers: Tensor) -> Tensor:
    """What `cumulative` has too much where documents are kept apart, to be taken off in place.

    Of the number of each token's document (batch, length), which counts up from one token to another by at most one;
    (batch, 1, chunks, chunk), float32.
    """
    within = numbers.unflatten(1, (-1, CHUNK))
    before = F.pad(within[:, :-1, -1], (1, 0))  # of the state that enters
    return (APART * (within - before[..., None])).unsqueeze(1)


def forward(x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """The output, contiguous, and the states before all chunks, which `backward` takes."""
    batch, _, heads, _ = x.shape
    groups, entering = B.shape[2], states(x, dt, cumulative, B)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    chunks, per_group = dt.shape[2], heads // groups
    parts = min(per_group, triton.cdiv(PROGRAMS, batch * chunks * groups))
    _scan_output[(parts, groups, batch * chunks)](
        x, dt, cumulative, B, C, D, entering, y,
        *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], chunks, heads, per_group, triton.cdiv(per_group, parts),
        **_sizes(x, B), **OUTPUT,
    )  # fmt: skip
    return y, entering


def states(values: Tensor, dt: Tensor, cumulative: Tensor, keys: Tensor, *, backward: bool = False) -> Tensor:
    """The state before every chunk, from x as `values` and B as `keys`.

    Going `backward`, from dy and C: the gradient of the state behind every chunk.
    """
    batch, _, heads, head_dim = values.shape
    chunks = dt.shape[2]
    size = (batch, chunks, heads, keys.shape[3], head_dim)
    found = torch.empty(size, dtype=values.dtype, device=values.device)
    _scan_states[(heads, batch)](
        values, dt, cumulative, keys, found,
        *values.stride()[:3], *keys.stride()[:3], chunks, heads, heads // keys.shape[2],
        **_sizes(values, keys), BACKWARD=backward, **STATES,
    )  # fmt: skip
    return found


def backward(dy: Tensor, x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor, entering: Tensor,
             dx: Tensor, dB: Tensor, dC: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Fill dx, dB and dC, given dy; returns the gradients of dt, of A dt and of D, in float32.

    The gradient of dt is without what reaches it by way of A dt. The first two are shaped as dt, the last (heads).
    """
    batch, _, heads, _ = x.shape
    chunks, groups = dt.shape[2], B.shape[2]
    sizes, counts = _sizes(x, B), (chunks, heads, heads // groups)
    leaving = states(dy, dt, cumulative, C, backward=True)
    grad_dt, skipped, later, earlier, across, brought, onward = torch.empty(
        7, *dt.shape, dtype=torch.float32, device=x.device
    )
    _scan_input[(CHUNK // INPUT["ROWS"], heads, batch * chunks)](
        dy, x, dt, cumulative, B, C, D, leaving, dx, grad_dt, skipped,
        *dy.stride()[:3], *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *dx.stride()[:3], *counts,
        **sizes, **INPUT,
    )  # fmt: skip
    # zeros, for the blocks above the diagonal are never written
    weights = torch.zeros(batch, chunks, groups, CHUNK, CHUNK, dtype=x.dtype, device=x.device)
    _scan_pairs[(3, groups, batch * chunks)](
        dy, x, dt, cumulative, B, C, weights, later, earlier, across,
        *dy.stride()[:3], *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *counts, **sizes,
        ROWS=CHUNK // 2, **PAIRS,
    )  # fmt: skip
    for own, other, values, around, made, sums in (
        (C, B, dy, entering, dC, brought),
        (B, C, x, leaving, dB, onward),
    ):
        _scan_group[(CHUNK // GROUP["ROWS"], groups, batch * chunks)](
            own, other, values, dt, cumulative, around, weights, made, sums,
            *own.stride()[:3], *other.stride()[:3], *values.stride()[:3], *made.stride()[:3],
            *counts, BY_KEY=made is dB, **sizes, **GROUP,
        )  # fmt: skip
    grad_decay = torch.empty_like(dt)
    _scan_collect[(chunks, heads, batch)](
        cumulative, entering, leaving, later, earlier, across, brought, onward, grad_decay, chunks, heads,
        CHUNK=CHUNK, SIZE=x.shape[3] * B.shape[3], **COLLECT,
    )  # fmt: skip
    return grad_dt, grad_decay, skipped.sum((0, 2, 3))


def _sizes(values: Tensor, keys: Tensor) -> dict[str, int]:
    head_dim = values.shape[3]
    block = max(64, triton.next_power_of_2(head_dim))
    return {"CHUNK": CHUNK, "STATE": keys.shape[3], "HEAD": head_dim, "HEAD_BLOCK": block}


@triton.jit
def _scan_states(
    values, dt, cumulative, keys, found,
    values_batch, values_token, values_head, keys_batch, keys_token, keys_group, chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """A head's state along the sequence, or the state's gradient back along it."""
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    token, n, p = tl.arange(0, CHUNK), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    inside = p[None, :] < HEAD
    start = (chunks - 1).to(tl.int64) if BACKWARD else 0
    forth = -1 if BACKWARD else 1
    values += batch * values_batch + head * values_head + start * CHUNK * values_token
    keys += batch * keys_batch + (head // per_group) * keys_group + start * CHUNK * keys_token
    dt += ((batch * heads + head) * chunks + start) * CHUNK
    cumulative += ((batch * heads + head) * chunks + start) * CHUNK
    found += ((batch * chunks + start) * heads + head) * HEAD * STATE
    of_values = token[:, None] * values_token + p[None, :]
    of_keys = token[:, None] * keys_token + n[None, :]
    of_state = n[:, None] * HEAD + p[None, :]
    state = tl.zeros((STATE, HEAD_BLOCK), tl.float32)
    for _ in range(chunks):
        decay = tl.load(cumulative + token)
        end = tl.load(cumulative + CHUNK - 1)
        weight = tl.exp(decay) if BACKWARD else tl.exp(end - decay) * tl.load(dt + token)
        value = tl.load(values + of_values, mask=inside, other=0.0)
        key = tl.load(keys + of_keys)
        tl.store(found + of_state, state.to(found.dtype.element_ty), mask=inside)
        weighted = (value.to(tl.float32) * weight[:, None]).to(value.dtype)
        state = tl.dot(tl.trans(key), weighted, state * tl.exp(end))
        values += forth * CHUNK * values_token
        keys += forth * CHUNK * keys_token
        dt += forth * CHUNK
        cumulative += forth * CHUNK
        found += forth * heads * HEAD * STATE


@triton.jit
def _scan_output(
    x, dt, cumulative, b, c, d, entering, y,
    x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group, chunks, heads, per_group,
    per_program, CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr,
):  # fmt: skip
    """The output of some heads of a group in a chunk, from the states before it and from within, head after head."""
    part, group = tl.program_id(0) * per_program, tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    token, n, p = tl.arange(0, CHUNK), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    inside = p[None, :] < HEAD
    first, start = group * per_group + part, chunk * CHUNK
    b += batch * b_batch + group * b_group + start * b_token
    c += batch * c_batch + group * c_group + start * c_token
    x += batch * x_batch + first * x_head + start * x_token
    y += ((batch * chunks + chunk) * CHUNK * heads + first) * HEAD
    entering += ((batch * chunks + chunk) * heads + first) * HEAD * STATE
    place = ((batch * heads + first) * chunks + chunk) * CHUNK
    dt += place
    cumulative += place
    d += first
    queries = tl.load(c + token[:, None] * c_token + n[None, :])
    products = tl.dot(queries, tl.trans(tl.load(b + token[:, None] * b_token + n[None, :])))
    products = tl.where(token[:, None] >= token[None, :], products, 0.0)
    for _ in range(min(per_program, per_group - part)):
        state = tl.load(entering + n[:, None] * HEAD + p[None, :], mask=inside, other=0.0)
        inputs = tl.load(x + token[:, None] * x_token + p[None, :], mask=inside, other=0.0)
        decay = tl.load(cumulative + token)
        apart = decay[:, None] - decay[None, :]
        weights = products * (tl.exp(tl.minimum(apart, 0.0)) * tl.load(dt + token)[None, :])
        output = tl.dot(queries, state) * tl.exp(decay)[:, None]
        output = tl.dot(weights.to(inputs.dtype), inputs, output)
        output += tl.load(d).to(tl.float32) * inputs.to(tl.float32)
        tl.store(y + token[:, None] * (heads * HEAD) + p[None, :], output.to(y.dtype.element_ty), mask=inside)
        x += x_head
        y += HEAD
        entering += HEAD * STATE
        dt += chunks * CHUNK
        cumulative += chunks * CHUNK
        d += 1


@triton.jit
def _scan_input(
    dy, x, dt, cumulative, b, c, d, leaving, dx, grad_dt, skipped,
    dy_batch, dy_token, dy_head, x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group,
    dx_batch, dx_token, dx_head, chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradients of x, dt and, unsummed, D at some tokens of a chunk."""
    block, head = tl.program_id(0), tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    row, n, p = block * ROWS + tl.arange(0, ROWS), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    inside = p[None, :] < HEAD
    group, start = head // per_group, chunk * CHUNK
    b += batch * b_batch + group * b_group + start * b_token
    c += batch * c_batch + group * c_group + start * c_token
    dy += batch * dy_batch + head * dy_head + start * dy_token
    x += batch * x_batch + head * x_head + start * x_token
    dx += batch * dx_batch + head * dx_head + start * dx_token
    leaving += ((batch * chunks + chunk) * heads + head) * HEAD * STATE
    place = ((batch * heads + head) * chunks + chunk) * CHUNK
    dt += place
    cumulative += place
    keys = tl.load(b + row[:, None] * b_token + n[None, :])
    gradient = tl.load(leaving + n[:, None] * HEAD + p[None, :], mask=inside, other=0.0)
    decay, step = tl.load(cumulative + row), tl.load(dt + row)
    grad_input = tl.dot(keys, gradient) * tl.exp(tl.load(cumulative + CHUNK - 1) - decay)[:, None]
    for first in range(block * ROWS, CHUNK, ROWS):
        token = first + tl.arange(0, ROWS)
        queries = tl.load(c + token[:, None] * c_token + n[None, :])
        incoming = tl.load(dy + token[:, None] * dy_token + p[None, :], mask=inside, other=0.0)
        apart = tl.load(cumulative + token)[None, :] - decay[:, None]
        weights = tl.dot(keys, tl.trans(queries)) * tl.exp(tl.minimum(apart, 0.0))
        weights = tl.where(row[:, None] <= token[None, :], weights, 0.0)
        grad_input = tl.dot(weights.to(incoming.dtype), incoming, grad_input)
    inputs = tl.load(x + row[:, None] * x_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(grad_dt + place + row, tl.sum(grad_input * inputs, 1))
    own = tl.load(dy + row[:, None] * dy_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    inputs = tl.load(x + row[:, None] * x_token + p[None, :], mask=inside, other=0.0).to(tl.float32)  # kept, they spill
    tl.store(skipped + place + row, tl.sum(own * inputs, 1))
    made = grad_input * step[:, None] + tl.load(d + head).to(tl.float32) * own
    tl.store(dx + row[:, None] * dx_token + p[None, :], made.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _scan_pairs(
    dy, x, dt, cumulative, b, c, weights, later, earlier, across,
    dy_batch, dy_token, dy_head, x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group,
    chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A block of a chunk's G, summed over a group's heads as `weights`, and its part of the gradient of a.

    Of the chunk's two by two blocks these are the three on and below the diagonal. A pair of tokens counts at the later
    one of the two and is taken off at the earlier: in `later` and `earlier` by the blocks on the diagonal, in `across`
    by the one below.
    """
    late, early, group = (tl.program_id(0) + 1) // 2, tl.program_id(0) // 2, tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    row, n, p = tl.arange(0, ROWS), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    inside = p[None, :] < HEAD
    first, at, to = group * per_group, chunk * CHUNK + late * ROWS, chunk * CHUNK + early * ROWS
    b += batch * b_batch + group * b_group + to * b_token
    c += batch * c_batch + group * c_group + at * c_token
    dy += batch * dy_batch + first * dy_head + at * dy_token
    x += batch * x_batch + first * x_head + to * x_token
    place = ((batch * heads + first) * chunks + chunk) * CHUNK
    dt += place + early * ROWS
    cumulative += place
    later = (later if late == early else across) + (place + late * ROWS)
    earlier = (earlier if late == early else across) + (place + early * ROWS)
    paired = late * ROWS + row[:, None] >= early * ROWS + row[None, :]
    queries = tl.load(c + row[:, None] * c_token + n[None, :])
    products = tl.dot(queries, tl.trans(tl.load(b + row[:, None] * b_token + n[None, :])))
    products = tl.where(paired, products, 0.0)
    total = tl.zeros((ROWS, ROWS), tl.float32)
    for _ in range(per_group):
        apart = tl.load(cumulative + late * ROWS + row)[:, None] - tl.load(cumulative + early * ROWS + row)[None, :]
        step = tl.load(dt + row)
        incoming = tl.load(dy + row[:, None] * dy_token + p[None, :], mask=inside, other=0.0)
        inputs = tl.load(x + row[:, None] * x_token + p[None, :], mask=inside, other=0.0)
        pairs = tl.dot(incoming, tl.trans(inputs)) * (tl.exp(tl.minimum(apart, 0.0)) * step[None, :])
        total += pairs
        pairs *= products
        tl.store(later + row, tl.sum(pairs, 1))
        tl.store(earlier + row, -tl.sum(pairs, 0))
        dy += dy_head
        x += x_head
        dt += chunks * CHUNK
        cumulative += chunks * CHUNK
        later += chunks * CHUNK
        earlier += chunks * CHUNK
    weights += ((batch * chunks + chunk) * tl.num_programs(1) + group) * CHUNK * CHUNK
    weights += (late * ROWS + row[:, None]) * CHUNK + early * ROWS + row[None, :]
    tl.store(weights, tl.where(paired, total, 0.0).to(weights.dtype.element_ty))


@triton.jit
def _scan_group(
    own, other, values, dt, cumulative, states, weights, made, sums,
    own_batch, own_token, own_group, other_batch, other_token, other_group,
    values_batch, values_token, values_head, made_batch, made_token, made_group, chunks, heads, per_group,
    BY_KEY: tl.constexpr, CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """The gradient of C, or `BY_KEY` of B, for some tokens of a chunk, summed over a group's heads.

    `own` is C (or B) and `other` B (C), `values` dy (x) and `states` those before (gradients behind) the chunk. Also
    sums, for every head and token, what it has from (on to) beyond the chunk.
    """
    block, group = tl.program_id(0), tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    row, n, p = block * ROWS + tl.arange(0, ROWS), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    inside = p[None, :] < HEAD
    first, start = group * per_group, chunk * CHUNK
    own += batch * own_batch + group * own_group + start * own_token
    other += batch * other_batch + group * other_group + start * other_token
    made += batch * made_batch + group * made_group + start * made_token
    values += batch * values_batch + first * values_head + start * values_token
    states += ((batch * chunks + chunk) * heads + first) * HEAD * STATE
    weights += ((batch * chunks + chunk) * tl.num_programs(1) + group) * CHUNK * CHUNK
    place = ((batch * heads + first) * chunks + chunk) * CHUNK
    dt += place
    cumulative += place
    sums += place
    mine = tl.load(own + row[:, None] * own_token + n[None, :])
    total = tl.zeros((ROWS, STATE), tl.float32)
    for _ in range(per_group):
        decay = tl.load(cumulative + row)
        scale = tl.exp(tl.load(cumulative + CHUNK - 1) - decay) * tl.load(dt + row) if BY_KEY else tl.exp(decay)
        value = tl.load(values + row[:, None] * values_token + p[None, :], mask=inside, other=0.0)
        state = tl.load(states + n[:, None] * HEAD + p[None, :], mask=inside, other=0.0)
        grad_state = tl.dot(value, tl.trans(state)) * scale[:, None]
        total += grad_state
        tl.store(sums + row, tl.sum(grad_state * mine.to(tl.float32), 1))
        values += values_head
        states += HEAD * STATE
        dt += chunks * CHUNK
        cumulative += chunks * CHUNK
        sums += chunks * CHUNK
    for begin in range(block * ROWS if BY_KEY else 0, CHUNK if BY_KEY else (block + 1) * ROWS, ROWS):
        token = begin + tl.arange(0, ROWS)
        opposite = tl.load(other + token[:, None] * other_token + n[None, :])
        if BY_KEY:
            weight = tl.trans(tl.load(weights + token[:, None] * CHUNK + row[None, :]))
        else:
            weight = tl.load(weights + row[:, None] * CHUNK + token[None, :])
        total = tl.dot(weight, opposite, total)
    tl.store(made + row[:, None] * made_token + n[None, :], total.to(made.dtype.element_ty))


@triton.jit
def _scan_collect(
    cumulative, entering, leaving, later, earlier, across, brought, onward, grad_decay, chunks, heads,
    CHUNK: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of a chunk's A dt: that of a token counts for all pairs of tokens it lies between."""
    chunk, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = ((batch * heads + head) * chunks + chunk) * CHUNK
    at = start + tl.arange(0, CHUNK)
    of_state = ((batch * chunks + chunk) * heads + head) * SIZE
    whole = tl.zeros((BLOCK,), tl.float32)  # of what passes through the whole chunk
    for first in range(0, SIZE, BLOCK):
        place = first + tl.arange(0, BLOCK)
        state = tl.load(entering + of_state + place, mask=place < SIZE, other=0.0).to(tl.float32)
        whole += state * tl.load(leaving + of_state + place, mask=place < SIZE, other=0.0).to(tl.float32)
    through = tl.sum(whole) * tl.exp(tl.load(cumulative + start + CHUNK - 1))
    between = tl.load(later + at) + tl.load(earlier + at) + tl.load(across + at) + tl.load(brought + at)
    leaves = tl.load(onward + at)
    before = tl.cumsum(leaves, 0) - leaves
    tl.store(grad_decay + at, tl.cumsum(between, 0, reverse=True) + before + through)
