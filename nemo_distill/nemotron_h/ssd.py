"""Mamba-2's scan on a GPU with its states in memory once, in the inputs' precision: both directions, in Triton.

    install()        # mamba-ssm's autograd function, and so Megatron's mixer, takes this scan where it fits

mamba-ssm (arXiv:2405.21060, section 6) computes the states of all chunks in float32, adds them up along the sequence in
a second kernel and the gradients in two more, so that states are written and read four times a pass. Here one kernel
takes a head from the first chunk to the last with the state in registers, and back with its gradient. All else runs for
all chunks at once: the output, the gradient of x, and what sums over the heads of a group, the gradients of B and C.

With y the output, h the state before a chunk, dh the gradient of the one behind it, a the sum of A dt from the chunk's
start, and P, G the matrices of a chunk,

    y_t  = exp(a_t) C_t h + sum_s P_ts dt_s x_s + D x_t,         P_ts = (C_t B_s) exp(a_t - a_s) for s <= t
    dx_s = dt_s (exp(a_end - a_s) B_s dh + sum_t P_ts dy_t) + D dy_s
    dC_t = exp(a_t) dy_t h + sum_s G_ts B_s,                      G_ts = (dy_t x_s) dt_s exp(a_t - a_s)
    dB_s = exp(a_end - a_s) dt_s x_s dh + sum_t G_ts C_t

Factors of matrix products are in the inputs' precision, sums and the carried state in float32, as in mamba-ssm. The
gradient of a is made from float32 products alone: it is a sum of differences that all but cancel.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 128
"""Tokens per chunk. It is no part of the result but for rounding; what a model's config says is for mamba-ssm."""
STATES = {"PART": 128, "num_warps": 8, "num_stages": 3}
OUTPUT = {"PART": 128, "ROWS": 64, "num_warps": 4, "num_stages": 1}
INPUT = {"PART": 128, "ROWS": 64, "num_warps": 4, "num_stages": 2}
GROUP = {"ROWS": 64, "num_warps": 8, "num_stages": 2}
"""How each kernel is compiled, and how many of a chunk's tokens (`ROWS`) and of a head's columns (`PART`) a program
takes: the fastest of some ten each at the study's shapes on an H200. No tile is narrower than 64, for Triton 3.6 then
reads past its shared memory on Hopper (its issue 11366)."""


def fits(x: Tensor, B: Tensor, D: Tensor | None, z: Tensor | None, *others: Tensor | None) -> bool:
    """Whether this scan computes what mamba-ssm is asked for; `others` are packed sequences and given states."""
    return (
        all(other is None for other in others)
        and D is not None and D.dim() == 1 and z is not None
        and B.shape[-1] in (64, 128) and x.shape[-1] <= 128
        and x.shape[1] % CHUNK == 0
        and all(tensor.stride(-1) == 1 for tensor in (x, B, z))
    )  # fmt: skip


def install() -> None:
    """Make mamba-ssm's `ssd_combined` scan this way where it fits, and its own way elsewhere."""
    from mamba_ssm.ops.triton import ssd_combined

    if not hasattr(ssd_combined._mamba_chunk_scan_combined_fwd, "__wrapped__"):
        ssd_combined._mamba_chunk_scan_combined_fwd = _instead_of_fwd(ssd_combined._mamba_chunk_scan_combined_fwd)
        ssd_combined._mamba_chunk_scan_combined_bwd = _instead_of_bwd(ssd_combined._mamba_chunk_scan_combined_bwd)


def _instead_of_fwd(theirs):
    from mamba_ssm.ops.triton.ssd_chunk_state import _chunk_cumsum_fwd

    @functools.wraps(theirs)
    def fwd(x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
            cu_seqlens=None, dt_softplus=False, dt_limit=(0.0, float("inf"))):  # fmt: skip
        if not fits(x, B, D, z, initial_states, seq_idx, cu_seqlens):
            return theirs(
                x, dt, A, B, C, chunk_size, D=D, z=z, dt_bias=dt_bias, initial_states=initial_states, seq_idx=seq_idx,
                cu_seqlens=cu_seqlens, dt_softplus=dt_softplus, dt_limit=dt_limit,
            )  # fmt: skip
        cumulative, dt = _chunk_cumsum_fwd(dt, A, CHUNK, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit)
        gated, out, final = forward(x, dt, cumulative, B, C, D, z)
        return gated, out, dt, cumulative, None, final

    return fwd


def _instead_of_bwd(theirs):
    from mamba_ssm.ops.triton.ssd_chunk_scan import _chunk_scan_bwd_dz
    from mamba_ssm.ops.triton.ssd_chunk_state import _chunk_cumsum_bwd, _chunk_cumsum_fwd

    @functools.wraps(theirs)
    def bwd(dout, x, dt, A, B, C, out, chunk_size, D=None, z=None, dt_bias=None, initial_states=None,
            dfinal_states=None, seq_idx=None, dt_softplus=False, dt_limit=(0.0, float("inf")), dx=None, ddt=None,
            dB=None, dC=None, dz=None, recompute_output=False):  # fmt: skip
        if recompute_output or not fits(x, B, D, z, initial_states, seq_idx, dfinal_states):
            return theirs(
                dout, x, dt, A, B, C, out, chunk_size, D=D, z=z, dt_bias=dt_bias, initial_states=initial_states,
                dfinal_states=dfinal_states, seq_idx=seq_idx, dt_softplus=dt_softplus, dt_limit=dt_limit,
                dx=dx, ddt=ddt, dB=dB, dC=dC, dz=dz, recompute_output=recompute_output,
            )  # fmt: skip
        dx, dB, dC, ddt = (torch.empty_like(of) if made is None else made
                           for made, of in ((dx, x), (dB, B), (dC, C), (ddt, dt)))  # fmt: skip
        cumulative, steps = _chunk_cumsum_fwd(dt, A, CHUNK, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit)
        dz, dy, dD = _chunk_scan_bwd_dz(x, z, out, dout, chunk_size=CHUNK, has_ddAcs=False, D=D, dz=dz)
        by_steps, by_decay = backward(dy, x, steps, cumulative, B, C, D, dx, dB, dC)
        ddt, dA, ddt_bias = _chunk_cumsum_bwd(
            by_decay, by_steps, dt, A, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit, ddt=ddt
        )
        return dx, ddt, dA, dB, dC, dD, dz, ddt_bias, None

    return bwd


def forward(x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor):
    """The gated output, the one before the gate, and the state behind the last token.

    Shapes: x, z (batch, length, heads, head dim); dt, `cumulative` (batch, heads, chunks, chunk), float32; B, C
    (batch, length, groups, state); D (heads). The state is float32, (batch, heads, head dim, state).
    """
    batch, _, heads, head_dim = x.shape
    chunks, chunk = dt.shape[2:]
    entering, final = states(x, dt, cumulative, B)
    gated, out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    tiles = triton.cdiv(head_dim, OUTPUT["PART"]) * (chunk // OUTPUT["ROWS"])
    _scan_output[(tiles, heads, batch * chunks)](
        x, dt, cumulative, B, C, D, z, entering, gated, out,
        *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *z.stride()[:3], chunks, heads, heads // B.shape[2],
        CHUNK=chunk, STATE=B.shape[3], HEAD=head_dim, **OUTPUT,
    )  # fmt: skip
    return gated, out, final.transpose(2, 3)


def states(values: Tensor, dt: Tensor, cumulative: Tensor, keys: Tensor, *, backward: bool = False):
    """The state before every chunk, (batch, chunks, heads, state, head dim) in the values' precision, and the last one.

    The last is (batch, heads, state, head dim), float32. `values` are x and `keys` B; or, going `backward`, dy and C
    for the gradient of the state behind every chunk, and of the state before the first.
    """
    batch, _, heads, head_dim = values.shape
    chunks, chunk = dt.shape[2:]
    size = (heads, keys.shape[3], head_dim)
    found = torch.empty(batch, chunks, *size, dtype=values.dtype, device=values.device)
    last = torch.empty(batch, *size, dtype=torch.float32, device=values.device)
    _scan_states[(triton.cdiv(head_dim, STATES["PART"]), heads, batch)](
        values, dt, cumulative, keys, found, last,
        *values.stride()[:3], *keys.stride()[:3], chunks, heads, heads // keys.shape[2],
        CHUNK=chunk, STATE=keys.shape[3], HEAD=head_dim, BACKWARD=backward, **STATES,
    )  # fmt: skip
    return found, last


def backward(dy: Tensor, x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor, dx: Tensor,
             dB: Tensor, dC: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Fill dx, dB and dC, given dy, the gradient of the output before the gate; returns those of dt and A dt.

    The gradient of dt is without what reaches it by way of A dt. Both are (batch, heads, chunks, chunk), float32.
    """
    batch, _, heads, head_dim = x.shape
    chunks, chunk = dt.shape[2:]
    groups, state = B.shape[2:]
    entering, _ = states(x, dt, cumulative, B)
    leaving, _ = states(dy, dt, cumulative, C, backward=True)
    parts, row_blocks = triton.cdiv(head_dim, INPUT["PART"]), chunk // INPUT["ROWS"]
    by_dt, onward = (torch.empty(parts, *dt.shape, dtype=torch.float32, device=x.device) for _ in range(2))
    through = torch.empty(parts, *dt.shape[:3], dtype=torch.float32, device=x.device)
    _scan_input[(parts * row_blocks, heads, batch * chunks)](
        dy, x, dt, cumulative, B, C, D, entering, leaving, dx, by_dt, onward, through,
        *dy.stride()[:3], *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *dx.stride()[:3],
        by_dt.stride(0), through.stride(0), chunks, heads, heads // groups,
        CHUNK=chunk, STATE=state, HEAD=head_dim, **INPUT,
    )  # fmt: skip
    sums = torch.empty(2, *dt.shape, dtype=torch.float32, device=x.device)
    for by_key, (own, other, left, right, around, made) in enumerate(
        ((C, B, dy, x, entering, dC), (B, C, x, dy, leaving, dB))
    ):
        _scan_group[(chunk // GROUP["ROWS"], groups, batch * chunks)](
            own, other, left, right, dt, cumulative, around, made, sums[by_key],
            *own.stride()[:3], *other.stride()[:3], *left.stride()[:3], *right.stride()[:3], *made.stride()[:3],
            chunks, heads, heads // groups, BY_KEY=bool(by_key), CHUNK=chunk, STATE=state, HEAD=head_dim,
            HEAD_BLOCK=max(64, triton.next_power_of_2(head_dim)), **GROUP,
        )  # fmt: skip
    ddt, dA = torch.empty_like(dt), torch.empty_like(dt)
    _scan_collect[(batch * heads * chunks,)](
        by_dt, onward, through, *sums, ddt, dA, by_dt.stride(0), through.stride(0),
        CHUNK=chunk, PARTS=parts, num_warps=1,
    )  # fmt: skip
    return ddt, dA


@triton.jit
def _scan_states(
    values, dt, cumulative, keys, found, last,
    values_batch, values_token, values_head, keys_batch, keys_token, keys_group, chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, BACKWARD: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Some columns of a head's state along the sequence, or of the state's gradient back along it."""
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    token, n = tl.arange(0, CHUNK), tl.arange(0, STATE)
    p = tl.program_id(0) * PART + tl.arange(0, PART)
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
    state = tl.zeros((STATE, PART), tl.float32)
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
    tl.store(last + (batch * heads + head) * HEAD * STATE + of_state, state, mask=inside)


@triton.jit
def _scan_output(
    x, dt, cumulative, b, c, d, z, entering, gated, out,
    x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group, z_batch, z_token, z_head,
    chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The output at some tokens of a chunk, from the state before it and the tokens up to there."""
    block, part = tl.program_id(0) % (CHUNK // ROWS), tl.program_id(0) // (CHUNK // ROWS)
    head = tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    row, n = block * ROWS + tl.arange(0, ROWS), tl.arange(0, STATE)
    p = part * PART + tl.arange(0, PART)
    inside = p[None, :] < HEAD
    group = head // per_group
    x += batch * x_batch + head * x_head + chunk * CHUNK * x_token
    b += batch * b_batch + group * b_group + chunk * CHUNK * b_token
    c += batch * c_batch + group * c_group + chunk * CHUNK * c_token
    z += batch * z_batch + head * z_head + chunk * CHUNK * z_token
    entering += ((batch * chunks + chunk) * heads + head) * HEAD * STATE
    dt += ((batch * heads + head) * chunks + chunk) * CHUNK
    cumulative += ((batch * heads + head) * chunks + chunk) * CHUNK
    here = (batch * chunks + chunk) * CHUNK * heads * HEAD + head * HEAD
    queries = tl.load(c + row[:, None] * c_token + n[None, :])
    state = tl.load(entering + n[:, None] * HEAD + p[None, :], mask=inside, other=0.0)
    decay = tl.load(cumulative + row)
    y = tl.dot(queries, state) * tl.exp(decay)[:, None]
    for start in range(0, (block + 1) * ROWS, ROWS):
        token = start + tl.arange(0, ROWS)
        keys = tl.load(b + token[:, None] * b_token + n[None, :])
        inputs = tl.load(x + token[:, None] * x_token + p[None, :], mask=inside, other=0.0)
        apart = decay[:, None] - tl.load(cumulative + token)[None, :]
        weights = tl.dot(queries, tl.trans(keys)) * tl.exp(tl.minimum(apart, 0.0)) * tl.load(dt + token)[None, :]
        weights = tl.where(row[:, None] >= token[None, :], weights, 0.0)
        y = tl.dot(weights.to(inputs.dtype), inputs, y)
    y += tl.load(d + head) * tl.load(x + row[:, None] * x_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    of_out = row[:, None] * (heads * HEAD) + p[None, :]
    tl.store(out + here + of_out, y.to(out.dtype.element_ty), mask=inside)
    gate = tl.load(z + row[:, None] * z_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(gated + here + of_out, (y * gate * tl.sigmoid(gate)).to(gated.dtype.element_ty), mask=inside)


@triton.jit
def _scan_input(
    dy, x, dt, cumulative, b, c, d, entering, leaving, dx, by_dt, onward, through,
    dy_batch, dy_token, dy_head, x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group,
    dx_batch, dx_token, dx_head, part_stride, through_stride, chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradient of x at some tokens of a chunk, and what `_scan_collect` needs of its product with x."""
    block, part = tl.program_id(0) % (CHUNK // ROWS), tl.program_id(0) // (CHUNK // ROWS)
    head = tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    row, n = block * ROWS + tl.arange(0, ROWS), tl.arange(0, STATE)
    p = part * PART + tl.arange(0, PART)
    inside = p[None, :] < HEAD
    group = head // per_group
    dy += batch * dy_batch + head * dy_head + chunk * CHUNK * dy_token
    x += batch * x_batch + head * x_head + chunk * CHUNK * x_token
    b += batch * b_batch + group * b_group + chunk * CHUNK * b_token
    c += batch * c_batch + group * c_group + chunk * CHUNK * c_token
    dx += batch * dx_batch + head * dx_head + chunk * CHUNK * dx_token
    place = (batch * heads + head) * chunks + chunk
    dt += place * CHUNK
    cumulative += place * CHUNK
    of_state = ((batch * chunks + chunk) * heads + head) * HEAD * STATE + n[:, None] * HEAD + p[None, :]
    keys = tl.load(b + row[:, None] * b_token + n[None, :])
    gradient = tl.load(leaving + of_state, mask=inside, other=0.0)
    decay, step = tl.load(cumulative + row), tl.load(dt + row)
    end = tl.load(cumulative + CHUNK - 1)
    if block == 0:  # what passes through the whole chunk, once
        state = tl.load(entering + of_state, mask=inside, other=0.0).to(tl.float32)
        passed = tl.sum(state * gradient.to(tl.float32)) * tl.exp(end)
        tl.store(through + part * through_stride + place, passed)
    inputs = tl.load(x + row[:, None] * x_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    by_input = tl.dot(keys, gradient) * tl.exp(end - decay)[:, None]
    tl.store(onward + part * part_stride + place * CHUNK + row, tl.sum(by_input * inputs, 1) * step)
    for start in range(block * ROWS, CHUNK, ROWS):
        token = start + tl.arange(0, ROWS)
        queries = tl.load(c + token[:, None] * c_token + n[None, :])
        incoming = tl.load(dy + token[:, None] * dy_token + p[None, :], mask=inside, other=0.0)
        apart = tl.load(cumulative + token)[None, :] - decay[:, None]
        weights = tl.dot(keys, tl.trans(queries)) * tl.exp(tl.minimum(apart, 0.0))
        weights = tl.where(row[:, None] <= token[None, :], weights, 0.0)
        by_input = tl.dot(weights.to(incoming.dtype), incoming, by_input)
    tl.store(by_dt + part * part_stride + place * CHUNK + row, tl.sum(by_input * inputs, 1))
    own = tl.load(dy + row[:, None] * dy_token + p[None, :], mask=inside, other=0.0).to(tl.float32)
    made = by_input * step[:, None] + tl.load(d + head) * own
    tl.store(dx + row[:, None] * dx_token + p[None, :], made.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _scan_group(
    own, other, left, right, dt, cumulative, states, made, sums,
    own_batch, own_token, own_group, other_batch, other_token, other_group,
    left_batch, left_token, left_head, right_batch, right_token, right_head, made_batch, made_token, made_group,
    chunks, heads, per_group,
    BY_KEY: tl.constexpr, CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """The gradient of C, or `BY_KEY` of B, for some tokens of a chunk, summed over a group's heads.

    `own` is C (or B) and `other` B (C), `left` dy (x) and `right` x (dy). Also sums, for every head and token, what it
    is in as the later (the earlier) of two tokens, for the gradient of a.
    """
    group = tl.program_id(1)
    batch, chunk = (tl.program_id(2) // chunks).to(tl.int64), (tl.program_id(2) % chunks).to(tl.int64)
    token, n, p = tl.arange(0, CHUNK), tl.arange(0, STATE), tl.arange(0, HEAD_BLOCK)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = p[None, :] < HEAD
    start = chunk * CHUNK
    first = group * per_group
    own += batch * own_batch + group * own_group + (start + row)[:, None] * own_token + n[None, :]
    other += batch * other_batch + group * other_group + (start + token)[:, None] * other_token + n[None, :]
    made += batch * made_batch + group * made_group + (start + row)[:, None] * made_token + n[None, :]
    left += batch * left_batch + first * left_head + (start + row)[:, None] * left_token + p[None, :]
    right += batch * right_batch + first * right_head + (start + token)[:, None] * right_token + p[None, :]
    states += ((batch * chunks + chunk) * heads + first) * HEAD * STATE + n[None, :] * HEAD + p[:, None]
    place = ((batch * heads + first) * chunks + chunk) * CHUNK
    dt += place
    cumulative += place
    sums += place + row
    pairing = row[:, None] <= token[None, :] if BY_KEY else row[:, None] >= token[None, :]
    mine = tl.load(own)
    products = tl.dot(mine, tl.trans(tl.load(other)))
    total = tl.zeros((ROWS, STATE), tl.float32)
    weights = tl.zeros((ROWS, CHUNK), tl.float32)
    for _ in range(per_group):
        near = tl.load(left, mask=inside, other=0.0)
        far = tl.load(right, mask=inside, other=0.0)
        state = tl.load(states, mask=p[:, None] < HEAD, other=0.0)
        decay = tl.load(cumulative + row)
        apart = decay[:, None] - tl.load(cumulative + token)[None, :]
        if BY_KEY:
            step = tl.load(dt + row)
            factor = tl.exp(tl.minimum(-apart, 0.0)) * step[:, None]
            scale = tl.exp(tl.load(cumulative + CHUNK - 1) - decay) * step
        else:
            factor = tl.exp(tl.minimum(apart, 0.0)) * tl.load(dt + token)[None, :]
            scale = tl.exp(decay)
        pairs = tl.where(pairing, tl.dot(near, tl.trans(far)) * factor, 0.0)
        by_state = tl.dot(near, state) * scale[:, None]
        weights += pairs
        total += by_state
        sum_of_pairs = tl.sum(pairs * products, 1)
        if not BY_KEY:  # the state before the chunk is earlier than any token
            sum_of_pairs += tl.sum(by_state * mine.to(tl.float32), 1)
        tl.store(sums, sum_of_pairs)
        left += left_head
        right += right_head
        states += HEAD * STATE
        dt += chunks * CHUNK
        cumulative += chunks * CHUNK
        sums += chunks * CHUNK
    opposite = tl.load(other)
    total += tl.dot(weights.to(opposite.dtype), opposite)
    tl.store(made, total.to(made.dtype.element_ty))


@triton.jit
def _scan_collect(
    by_dt, onward, through, later, earlier, ddt, da, part_stride, through_stride,
    CHUNK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The gradients of a chunk's dt and A dt: A dt of a token counts for all pairs it lies between."""
    chunk = tl.program_id(0).to(tl.int64)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    direct = tl.zeros((CHUNK,), tl.float32)
    leaving = tl.zeros((CHUNK,), tl.float32)
    whole = 0.0
    for part in tl.static_range(PARTS):
        direct += tl.load(by_dt + part * part_stride + at)
        leaving += tl.load(onward + part * part_stride + at)
        whole += tl.load(through + part * through_stride + chunk)
    between = tl.load(later + at) - tl.load(earlier + at)
    before = tl.cumsum(leaving, 0) - leaving
    tl.store(ddt + at, direct)
    tl.store(da + at, tl.cumsum(between, 0, reverse=True) + before + whole)
