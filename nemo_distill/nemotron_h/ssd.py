"""Mamba-2's scan on a GPU with the state kept on the chip: both directions, in Triton.

    install()        # mamba-ssm's autograd function, and so Megatron's mixer, takes this scan where it fits

mamba-ssm (arXiv:2405.21060, section 6) computes the states of all chunks, adds them up along the sequence, and reads
them back: a float32 state per chunk, written and read four times, for two thirds of the traffic. Here one program takes
a head from the first chunk to the last, the state in registers, which leaves reading the inputs and writing the output.
The backward pass does the same from the last chunk to the first with the gradient of the state; what sums over the
heads of a group (the gradients of B and C) is a second kernel, in which all chunks run at once.

With y the output, h the state, a the sum of A dt from the chunk's start and P, G the matrices of a chunk,

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

FORWARD_CHUNK, BACKWARD_CHUNK = 128, 128
"""Tokens per chunk. It is no part of the result but for rounding; what a model's config says is for mamba-ssm."""
FORWARD = {"PART": 64, "num_warps": 4, "num_stages": 2}
STATES = {"PART": 64, "num_warps": 4, "num_stages": 2}
BACKWARD = {"PART": 64, "num_warps": 4, "num_stages": 2}
"""How the passes along the sequence are compiled. `PART`: how many of a head's columns a program takes; columns are
independent of each other."""
GROUP = {"ROWS": 64, "num_warps": 4, "num_stages": 2}
"""And the kernel that sums over a group's heads. `ROWS`: how many of a chunk's tokens a program takes."""


def fits(x: Tensor, B: Tensor, D, z, *others) -> bool:
    """Whether this scan computes what mamba-ssm is asked for, and is the faster one.

    A program for every head (and part of it) has to fill the GPU; `others` are packed sequences and given states.
    """
    return (
        all(other is None for other in others)
        and D is not None and D.dim() == 1 and z is not None
        and B.shape[-1] in (64, 128)
        and x.shape[1] % max(FORWARD_CHUNK, BACKWARD_CHUNK) == 0
        and all(tensor.stride(-1) == 1 for tensor in (x, B, z))
        and 2 * x.shape[0] * x.shape[2] * triton.cdiv(x.shape[3], FORWARD["PART"]) >= _processors(x.device)
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
        cumulative, dt = _chunk_cumsum_fwd(
            dt, A, FORWARD_CHUNK, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit
        )
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
        cumulative, steps = _chunk_cumsum_fwd(
            dt, A, BACKWARD_CHUNK, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit
        )
        dz, dy, dD = _chunk_scan_bwd_dz(x, z, out, dout, chunk_size=BACKWARD_CHUNK, has_ddAcs=False, D=D, dz=dz)
        by_steps, by_decay = backward(dy, x, steps, cumulative, B, C, D, dx, dB, dC)
        ddt, dA, ddt_bias = _chunk_cumsum_bwd(
            by_decay, by_steps, dt, A, dt_bias=dt_bias, dt_softplus=dt_softplus, dt_limit=dt_limit, ddt=ddt
        )
        return dx, ddt, dA, dB, dC, dD, dz, ddt_bias, None

    return bwd


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0


def forward(x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor):
    """The gated output, the one before the gate, and the state behind the last token.

    Shapes: x, z (batch, length, heads, head dim); dt, `cumulative` (batch, heads, chunks, chunk), float32; B, C
    (batch, length, groups, state); D (heads). The state is float32, (batch, heads, head dim, state).
    """
    gated, out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    final = torch.empty(x.shape[0], *x.shape[2:], B.shape[3], dtype=torch.float32, device=x.device)
    _along(x, dt, cumulative, B, C, D, z, gated, out, final, None, FORWARD)
    return gated, out, final


def states(x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor) -> Tensor:
    """The state before every chunk, (batch, chunks, heads, head dim, state), in x's precision."""
    found = torch.empty(x.shape[0], dt.shape[2], *x.shape[2:], B.shape[3], dtype=x.dtype, device=x.device)
    _along(x, dt, cumulative, B, None, None, None, None, None, None, found, STATES)
    return found


def _along(x, dt, cumulative, B, C, D, z, gated, out, final, entering, compiled: dict) -> None:
    batch, _, heads, head_dim = x.shape
    chunks, chunk = dt.shape[2:]
    nothing = (0, 0, 0)
    _scan_forward[(triton.cdiv(head_dim, compiled["PART"]), heads, batch)](
        x, dt, cumulative, B, C, D, z, gated, out, final, entering,
        *x.stride()[:3], *B.stride()[:3], *(C.stride()[:3] if C is not None else nothing),
        *(z.stride()[:3] if z is not None else nothing),
        chunks, heads, heads // B.shape[2],
        CHUNK=chunk, STATE=B.shape[3], HEAD=head_dim, OUTPUT=entering is None, **compiled,
    )  # fmt: skip


def backward(dy: Tensor, x: Tensor, dt: Tensor, cumulative: Tensor, B: Tensor, C: Tensor, D: Tensor, dx: Tensor,
             dB: Tensor, dC: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Fill dx, dB and dC, given dy, the gradient of the output before the gate; returns those of dt and A dt.

    The gradient of dt is without what reaches it by way of A dt. Both are (batch, heads, chunks, chunk), float32.
    """
    batch, _, heads, head_dim = x.shape
    chunks, chunk = dt.shape[2:]
    groups, state = B.shape[2:]
    parts = triton.cdiv(head_dim, BACKWARD["PART"])
    entering = states(x, dt, cumulative, B)
    leaving = torch.empty_like(entering)
    by_dt, onward = (torch.empty(parts, *dt.shape, dtype=torch.float32, device=x.device) for _ in range(2))
    through = torch.empty(parts, *dt.shape[:3], dtype=torch.float32, device=x.device)
    _scan_backward[(parts, heads, batch)](
        dy, x, dt, cumulative, B, C, D, entering, leaving, dx, by_dt, onward, through,
        *dy.stride()[:3], *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *dx.stride()[:3],
        chunks, heads, heads // groups,
        CHUNK=chunk, STATE=state, HEAD=head_dim, **BACKWARD,
    )  # fmt: skip
    sums = torch.empty(2, *dt.shape, dtype=torch.float32, device=x.device)
    for by_key, (own, other, left, right, around, made) in enumerate(
        ((C, B, dy, x, entering, dC), (B, C, x, dy, leaving, dB))
    ):
        _scan_group[(triton.cdiv(chunk, GROUP["ROWS"]), batch * chunks, groups)](
            own, other, left, right, dt, cumulative, around, made, sums[by_key],
            *own.stride()[:3], *other.stride()[:3], *left.stride()[:3], *right.stride()[:3], *made.stride()[:3],
            chunks, heads, heads // groups, BY_KEY=bool(by_key), CHUNK=chunk, STATE=state, HEAD=head_dim,
            HEAD_BLOCK=triton.next_power_of_2(head_dim), **GROUP,
        )  # fmt: skip
    ddt, dA = torch.empty_like(dt), torch.empty_like(dt)
    _scan_collect[(batch * heads * chunks,)](
        by_dt, onward, through, *sums, ddt, dA, by_dt.stride(0), through.stride(0),
        CHUNK=chunk, PARTS=parts, num_warps=1,
    )  # fmt: skip
    return ddt, dA


@triton.jit
def _scan_forward(
    x, dt, cumulative, b, c, d, z, gated, out, final, entering,
    x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group, z_batch, z_token, z_head,
    chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, PART: tl.constexpr, OUTPUT: tl.constexpr,
):  # fmt: skip
    """A head's columns `part` along the sequence: the output, or the state before every chunk."""
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    token, n = tl.arange(0, CHUNK), tl.arange(0, STATE)
    p = tl.program_id(0) * PART + tl.arange(0, PART)
    inside = p[None, :] < HEAD
    group = head // per_group
    x += batch * x_batch + head * x_head + token[:, None] * x_token + p[None, :]
    b += batch * b_batch + group * b_group + token[:, None] * b_token + n[None, :]
    dt += (batch * heads + head) * chunks * CHUNK
    cumulative += (batch * heads + head) * chunks * CHUNK
    if OUTPUT:
        c += batch * c_batch + group * c_group + token[:, None] * c_token + n[None, :]
        z += batch * z_batch + head * z_head + token[:, None] * z_token + p[None, :]
        here = ((batch * chunks * CHUNK + token[:, None]) * heads + head) * HEAD + p[None, :]
        gated += here
        out += here
        skip = tl.load(d + head).to(tl.float32)
        causal = token[:, None] >= token[None, :]
    else:
        entering += (batch * chunks * heads + head) * HEAD * STATE + p[None, :] * STATE + n[:, None]
    state = tl.zeros((STATE, PART), tl.float32)
    for _ in range(chunks):
        step = tl.load(dt + token)
        decay = tl.load(cumulative + token)
        end = tl.load(cumulative + CHUNK - 1)
        inputs = tl.load(x, mask=inside, other=0.0)
        keys = tl.load(b)
        if OUTPUT:
            queries = tl.load(c)
            y = tl.dot(queries, state.to(queries.dtype)) * tl.exp(decay)[:, None]
            weights = tl.dot(queries, tl.trans(keys))
            weights *= tl.exp(tl.minimum(decay[:, None] - decay[None, :], 0.0)) * step[None, :]
            y += tl.dot(tl.where(causal, weights, 0.0).to(inputs.dtype), inputs)
            y += skip * inputs.to(tl.float32)
            gate = tl.load(z, mask=inside, other=0.0).to(tl.float32)
            tl.store(out, y.to(out.dtype.element_ty), mask=inside)
            tl.store(gated, (y * gate * tl.sigmoid(gate)).to(gated.dtype.element_ty), mask=inside)
            c += CHUNK * c_token
            z += CHUNK * z_token
            gated += CHUNK * heads * HEAD
            out += CHUNK * heads * HEAD
        else:
            tl.store(entering, state.to(entering.dtype.element_ty), mask=inside)
            entering += heads * HEAD * STATE
        left = (inputs.to(tl.float32) * (step * tl.exp(end - decay))[:, None]).to(inputs.dtype)
        state = state * tl.exp(end) + tl.dot(tl.trans(keys), left)
        x += CHUNK * x_token
        b += CHUNK * b_token
        dt += CHUNK
        cumulative += CHUNK
    if OUTPUT:
        final += (batch * heads + head) * HEAD * STATE + p[None, :] * STATE + n[:, None]
        tl.store(final, state, mask=inside)


@triton.jit
def _scan_backward(
    dy, x, dt, cumulative, b, c, d, entering, leaving, dx, by_dt, onward, through,
    dy_batch, dy_token, dy_head, x_batch, x_token, x_head, b_batch, b_token, b_group, c_batch, c_token, c_group,
    dx_batch, dx_token, dx_head, chunks, heads, per_group,
    CHUNK: tl.constexpr, STATE: tl.constexpr, HEAD: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """A head's columns `part` back along the sequence: dx, and the gradient of the state behind every chunk."""
    part, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    token, n = tl.arange(0, CHUNK), tl.arange(0, STATE)
    p = part * PART + tl.arange(0, PART)
    inside = p[None, :] < HEAD
    group = head // per_group
    last = (chunks - 1).to(tl.int64)
    first = batch * heads + head
    at = last * CHUNK + token[:, None]
    dy += batch * dy_batch + head * dy_head + at * dy_token + p[None, :]
    x += batch * x_batch + head * x_head + at * x_token + p[None, :]
    b += batch * b_batch + group * b_group + at * b_token + n[None, :]
    c += batch * c_batch + group * c_group + at * c_token + n[None, :]
    dx += batch * dx_batch + head * dx_head + at * dx_token + p[None, :]
    dt += (first * chunks + last) * CHUNK
    cumulative += (first * chunks + last) * CHUNK
    rows = part * (tl.num_programs(2) * heads).to(tl.int64) + first
    by_dt += (rows * chunks + last) * CHUNK + token
    onward += (rows * chunks + last) * CHUNK + token
    through += rows * chunks + last
    states = ((batch * chunks + last) * heads + head) * HEAD * STATE + p[None, :] * STATE + n[:, None]
    entering += states
    leaving += states
    skip = tl.load(d + head).to(tl.float32)
    causal = token[:, None] <= token[None, :]
    gradient = tl.zeros((STATE, PART), tl.float32)
    for _ in range(chunks):
        step = tl.load(dt + token)
        decay = tl.load(cumulative + token)
        end = tl.load(cumulative + CHUNK - 1)
        incoming = tl.load(dy, mask=inside, other=0.0)
        inputs = tl.load(x, mask=inside, other=0.0).to(tl.float32)
        keys = tl.load(b)
        queries = tl.load(c)
        state = tl.load(entering, mask=inside, other=0.0).to(tl.float32)
        rounded = gradient.to(keys.dtype)
        tl.store(leaving, rounded, mask=inside)
        tl.store(through, tl.sum(state * gradient) * tl.exp(end))
        by_input = tl.dot(keys, rounded) * tl.exp(end - decay)[:, None]
        tl.store(onward, tl.sum(by_input * inputs, 1) * step)
        weights = tl.dot(keys, tl.trans(queries))
        weights *= tl.exp(tl.minimum(decay[None, :] - decay[:, None], 0.0))
        by_input += tl.dot(tl.where(causal, weights, 0.0).to(incoming.dtype), incoming)
        tl.store(by_dt, tl.sum(by_input * inputs, 1))
        outer = incoming.to(tl.float32)
        tl.store(dx, (by_input * step[:, None] + skip * outer).to(dx.dtype.element_ty), mask=inside)
        arrived = (outer * tl.exp(decay)[:, None]).to(queries.dtype)
        gradient = gradient * tl.exp(end) + tl.dot(tl.trans(queries), arrived)
        dy -= CHUNK * dy_token
        x -= CHUNK * x_token
        b -= CHUNK * b_token
        c -= CHUNK * c_token
        dx -= CHUNK * dx_token
        dt -= CHUNK
        cumulative -= CHUNK
        by_dt -= CHUNK
        onward -= CHUNK
        through -= 1
        entering -= heads * HEAD * STATE
        leaving -= heads * HEAD * STATE


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
    batch, chunk = (tl.program_id(1) // chunks).to(tl.int64), (tl.program_id(1) % chunks).to(tl.int64)
    group = tl.program_id(2)
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
    states += ((batch * chunks + chunk) * heads + first) * HEAD * STATE + p[:, None] * STATE + n[None, :]
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
