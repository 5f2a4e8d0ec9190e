"""What a step's job is: its shape, its environment, and how it behaves towards a time limit.

NeMo-Run writes the batch script; `prepared` hands it an executor whose `setup_lines` hold what it has no place for:
values quoted so that they arrive as they were written, the program that checks the packaged code (`own_copy`), modules,
and a job that requeues itself shortly before its time limit, and when its step stands still. Requeued, it keeps its
number, so the jobs that wait for it go on waiting, and all of it works with nobody watching.

A job whose process goes on from one segment to the next lets go, at each milestone, what waits for no more than that
one; what it cannot let go starts when it ends. The job that was queued for the next segment waits for this one, and
takes that segment up where this job ends before it, near its time limit say; once the segment is done it is cancelled.
"""

import dataclasses
import inspect
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nemo_run

from nemo_distill.launch.executors import hidden_values
from nemo_distill.launch.slurm import own_copy
from nemo_distill.launch.slurm.site import Site
from nemo_distill.launch.slurm.tunnels import opened
from nemo_distill.run.at_work import ENDS
from nemo_distill.run.ranks import Processes, torchrun
from nemo_distill.run.secrets import NAMES, named
from nemo_distill.run.sharing import GROUP, is_shared
from nemo_distill.run.standstill import STALLED
from nemo_distill.run.step import JOB_FILE, SPEC_FILE, SUCCESS, Spec

PORTS = 10_000, 20_000
"""Where a job's nodes meet: the first of these many ports, plus the job's number modulo the second."""

# A handler runs when bash is not waiting for a foreground command, so srun goes to the background; `wait` ends early
# when the signal comes and is repeated. Requeuing ends the job's processes with SIGTERM. What a watchdog says of a step
# that stands still is looked for while srun runs, which may never end: one of its machines may not answer. Nodes can be
# excluded of a job that waits, so it is requeued first; Slurm has it wait for two minutes. A job that has done its own
# segment, and so is at a later one, ends well instead: the job of that segment is queued, and waits for no more.
_REQUEUE = """\
segments=({segments})
marked=0
export {ends}=
if [ "${{#segments[@]}}" -gt 1 ]; then
    ends=$(date -d "$(squeue --noheader --job "$SLURM_JOB_ID" --format=%e)" +%s 2>/dev/null) \\
        && export {ends}=$((ends - {warn}))
fi
queued() {{
    sed -n 's/.*"queued": {{"job": "\\([0-9]*\\)".*/\\1/p;t;s/.*"job": "\\([0-9]*\\)".*/\\1/p' "$1/{job_file}"
}}
let_go() {{
    local number next all job waits left
    while [ "$marked" -lt "${{#segments[@]}}" ] && [ -f "${{segments[marked]}}/{success}" ]; do
        number=$SLURM_JOB_ID next= all=1
        [ "$marked" -gt 0 ] && number=$(queued "${{segments[marked]}}")
        marked=$((marked + 1))
        [ "$marked" -lt "${{#segments[@]}}" ] && next=$(queued "${{segments[marked]}}")
        [ -n "$number" ] || continue
        while read -r job waits; do
            left=$(tr , '\\n' <<<"$waits" | sed 's/(.*//' | grep -vx "afterok:$number" | paste -sd,)
            if [ "$job" = "$next" ]; then
                [ "$number" = "$SLURM_JOB_ID" ] && continue
                left=${{left:+$left,}}afterok:$SLURM_JOB_ID
            fi
            scontrol update JobId="$job" Dependency="$left" || all=
        done < <(squeue --noheader --me --states=PENDING --format='%i %E' | grep -E "afterok:$number([(,]|$)")
        if [ "$number" != "$SLURM_JOB_ID" ] && [ -n "$all" ]; then scancel --state=PENDING "$number"; fi
    done
}}
if [ "${{SLURM_RESTART_COUNT:-0}}" -gt {requeues} ]; then
    echo "requeued {requeues} times already: given up (executor.requeues={requeues})" >&2
    exit 1
fi
requeue() {{
    if [ "$marked" -gt 0 ]; then
        echo "the time limit is near: the job of the next segment goes on from the last checkpoint" >&2
        passed_on=1
    elif [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
        echo "the time limit is near: requeued, to go on from the last checkpoint" >&2
        scontrol requeue "$SLURM_JOB_ID"
    fi
}}
trap requeue USR1
stands_still() {{
    local job restarts stalled=${{segments[marked]:-}}/{stalled}
    [ -f "$stalled" ] && read -r job restarts nodes <"$stalled" || return
    [ "$job $restarts" = "$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}}" ]
}}
requeue_elsewhere() {{
    local excluded left
    [[ $nodes =~ ^[A-Za-z0-9][A-Za-z0-9._,-]*$ ]] || nodes=
    if [ "$marked" -gt 0 ]; then
        echo "it stands still: the job of that segment goes on${{nodes:+, without $nodes}}" >&2
        [ -n "$nodes" ] && scontrol update JobId="$(queued "${{segments[marked]}}")" ExcNodeList="$nodes"
        passed_on=1
        return
    fi
    [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ] || return
    excluded=$(scontrol show job --oneliner "$SLURM_JOB_ID" | sed -n 's/.* ExcNodeList=\\([^ ]*\\).*/\\1/p')
    [ "$excluded" = "(null)" ] && excluded=
    excluded=${{excluded:+$excluded${{nodes:+,}}}}$nodes
    left=$(sinfo --noheader --Node --partition="$SLURM_JOB_PARTITION" --format=%N \\
        --states=idle,mixed,allocated,completing | sort -u \\
        | grep -cvxFf <(scontrol show hostnames "${{excluded:-none}}"))
    trap '' TERM
    if [ -z "$nodes" ] || [ "$left" -lt "$SLURM_JOB_NUM_NODES" ]; then
        echo "it stands still: requeued${{nodes:+, with $nodes, without which its partition has $left nodes}}" >&2
        scontrol requeue "$SLURM_JOB_ID"
        return
    fi
    echo "it stands still: requeued without $nodes" >&2
    scontrol requeue "$SLURM_JOB_ID" || return
    until scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$excluded"; do
        sleep 0.5
    done
}}
srun() {{
    command srun "$@" &
    local pid=$! code nodes passed_on=
    until [ -n "$passed_on" ] || stands_still || ! kill -0 "$pid" 2>/dev/null; do
        sleep 5 &
        wait -n "$pid" $!
        [ "${{#segments[@]}}" -gt 1 ] && let_go
    done
    stands_still && requeue_elsewhere
    [ -n "$passed_on" ] && return 0
    wait "$pid"; code=$?
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done
    [ "${{#segments[@]}}" -gt 1 ] && let_go
    return "$code"
}}"""


# What a file that the site's lines source brings is secret as well, and nobody here knows its names.
_NEW_NAMES = """\
nemo_distill_before=" $(compgen -e | tr '\\n' ' ') "
{lines}
for nemo_distill_name in $(compgen -e); do
    case "$nemo_distill_before" in *" $nemo_distill_name "*) ;; *) {names}="${names},$nemo_distill_name" ;; esac
done"""


@dataclass(kw_only=True)
class CodeFolder(nemo_run.Packager):
    """Has every job's code folder point to the copy that `snapshot` made: a packager's `symlink_from_remote_dir`."""


OWN_COPY = "NEMO_DISTILL_OWN_COPY"
"""Environment variable of a job with the program that checks the code (`own_copy`)."""
_PASSED_ON = (OWN_COPY, NAMES, "PYTHONPATH", "NEMO_DISTILL_IMAGE", ENDS)
"""Environment variables of a job that its container has as well, beside those of the site."""
# Lightning takes a process with SLURM_NTASKS for one of many that srun started, and meets nobody at a port of its own
# choice. Ranks are torchrun's here. -I: no file of a folder that others can write is imported before it was checked.
_PYTHON = f'env -u SLURM_NTASKS python -I -c "${OWN_COPY}"'


def task_of(
    spec: Spec, processes: Processes, *, code: Path, digest: str, following: Sequence[Spec] = ()
) -> nemo_run.Script:
    """What the job runs: the step, under torchrun when it has several processes, on a copy of `code` of that digest.

    Its process may go on with the steps `following`.
    """
    step = ["-m", "nemo_distill.step", *(shlex.quote(str(one.folder / SPEC_FILE)) for one in (spec, *following))]
    if processes.world > 1:
        first, many = PORTS
        # Not 29500 for everyone: two jobs of one node would meet.
        endpoint = f"${{head_node_ip%% *}}:$(({first} + SLURM_JOB_ID % {many}))"
        step = torchrun(
            step,
            nodes=processes.nodes,
            ranks_per_node=processes.per_node,
            endpoint=endpoint if processes.nodes > 1 else None,
        )
    _, module, *arguments = step
    entrypoint = f"{_PYTHON} {digest} {shlex.quote(str(code))}"
    return nemo_run.Script(path=module, m=True, entrypoint=entrypoint, args=arguments)


def prepared(
    site: Site,
    spec: Spec,
    processes: Processes,
    *,
    run_name: str,
    runs: Path,
    code: Path,
    following: Sequence[Spec] = (),
) -> nemo_run.SlurmExecutor:
    """NeMo-Run's executor of one step's job.

    Args:
        site: What the site says.
        spec: The step.
        processes: Its nodes and processes.
        run_name: Of the run; the job is called RUN.STEP.
        runs: The runs folder, which a container has at the same path, as it has the teacher's, if it lies in one.
        code: The folder of the code to run (`snapshot`).
        following: Steps that its process may go on with.
    """
    job, folders = site.of(spec), [one.folder for one in (spec, *following)]
    values = {key: str(value) for key, value in job.env_vars.items()}
    changes: dict[str, Any] = {
        "nodes": processes.nodes,
        "ntasks_per_node": 1,
        "job_name_prefix": f"{run_name}.",
        "comment": str(spec.folder),  # by which `Slurm.live_in` finds it
        # Without it what waits for a failed job waits for ever. The site may add to it, not take it away.
        "additional_parameters": {**(job.additional_parameters or {}), "kill_on_invalid_dep": "yes"},
        "signal": f"B:USR1@{job.warn_seconds}",
        "env_vars": {},  # NeMo-Run would write them unquoted, their names in capitals
        "setup_lines": "\n".join(_setup(job, values, hidden_values(site), folders=folders, shared=is_shared(runs))),
    }
    if job.gpus_per_node and processes.world > 1:
        changes["gpus_per_node"] = processes.per_node
    if job.container_image:
        needed = filter(None, (str(runs), spec.beside.teacher))
        changes["container_mounts"] = [*job.container_mounts, *(f"{folder}:{folder}" for folder in needed)]
        changes["container_env"] = sorted({*(job.container_env or ()), *values, *_PASSED_ON})
    return as_nemo_runs(dataclasses.replace(job, **changes), CodeFolder(symlink_from_remote_dir=str(code)))


def as_nemo_runs(site: Site, packager: nemo_run.Packager | None = None) -> nemo_run.SlurmExecutor:
    """What `site` says, as an executor of NeMo-Run's."""
    return nemo_run.SlurmExecutor(
        **site.of_nemo_run(),
        tunnel=opened(site.tunnel),
        packager=packager or nemo_run.Packager(),
        poll_estimated_start_time=False,
    )


def _setup(
    job: Site, values: dict[str, str], hidden: dict[str, str], *, folders: list[Path], shared: bool
) -> list[str]:
    lines = ["{ set +vx; } 2>/dev/null  # what follows may hold secrets; NeMo-Run's script prints every line"]
    lines += [GROUP] if shared else []
    if job.container_image:
        lines.append(f"export NEMO_DISTILL_IMAGE={shlex.quote(job.container_image)}")
    else:
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    lines.append(f"export {OWN_COPY}={shlex.quote(inspect.getsource(own_copy))}")
    lines.append("export PYTHONSAFEPATH=1")  # no file of the current folder is a library's module
    # NeMo-Run replaces "/nemo_run" throughout the script; two quotes in it, which the shell drops, hide it.
    lines += [
        f"export {name}={shlex.quote(value)}".replace("/nemo_run", "/nemo''_run") for name, value in values.items()
    ]
    lines += [f"module load {shlex.quote(name)}" for name in job.modules]
    lines += [f"export {name}={value}" for name, value in named(hidden).items()]
    lines += [_NEW_NAMES.format(lines=job.setup_lines, names=NAMES)] if job.setup_lines else []
    said = {"segments": shlex.join(map(str, folders)), "requeues": job.requeues, "warn": job.warn_seconds}
    files = {"job_file": JOB_FILE, "success": SUCCESS, "stalled": STALLED}
    return [*lines, _REQUEUE.format(ends=ENDS, **said, **files)]
