#!/usr/bin/env bash
# A run on a real Slurm that is disturbed twice and still finishes, as a person would see it:
#
#     python tests/nemo_distill/launch/slurm/cluster_for_tests.py bash benchmarks/slurm_session.sh > benchmarks/slurm_session.txt
#
# It takes ten minutes on two cores. Waiting is left out of what it prints.
set -uo pipefail
recipes=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../recipes")
cd "$(mktemp -d)" && cp -r "$recipes" . && cat > recipes/executors/slurm.yaml <<'SITE'
account: lab
partition: batch
time: "01:00:00"
mem: 6G
env_vars: {OMP_NUM_THREADS: "1"}
SITE

say() { printf '\n# %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; eval "$*" 2>&1 | grep -v -e Warning -e '^  import' -e '^$' | sed "s#$PWD#~#g"; }
until_it_trains() { until grep -q '"iteration"' runs/"$1"/*/losses.jsonl 2>/dev/null; do sleep 1; done; sleep 8; }
job_of() { squeue --noheader --name="distill_v1v3-debug.$1" --format=%i; }

RUN="nemo-run recipes/distill_v1v3.py --executor slurm scale=debug"
say "Queue the run and leave it to the cluster."
show "$RUN --detach | tail -n 3"
until_it_trains distill-0.3M
show "nemo-run status"

say "The node on which the second milestone trains goes down."
node=$(squeue --noheader --name=distill_v1v3-debug.distill-0.3M --format=%N)
show "scontrol update NodeName=$node State=DOWN Reason=power"
sleep 8
show "nemo-run status | grep -e state -e distill"
scontrol update JobId="$(job_of distill-0.3M)" StartTime=now # spares the reader two minutes
scontrol update NodeName="$node" State=RESUME
until_it_trains distill-0.61M

say "Somebody cancels the job that trains the last one."
show "scancel $(job_of distill-0.61M)"
sleep 10
show "nemo-run status"

say "The same command again goes on: from the last checkpoint of that segment, with all else as it was."
show "$RUN | tail -n 32"

say "How often each segment was begun, and its last loss."
for milestone in 0.1M 0.3M 0.61M; do
    show "grep -c 'started in' runs/distill-$milestone/*/log.txt; tail -n 1 runs/distill-$milestone/*/losses.jsonl"
done
