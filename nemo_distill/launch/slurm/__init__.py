"""A run on a Slurm cluster. `launch` comes here for `--executor slurm`, `nemo-run status` and `cancel` come here too.

The way through, in the order in which a launch goes it:

    snapshot     the code as it is now, with its uncommitted changes, copied into the runs folder: what jobs will run
    queueing     under a lock, a job for every step that is neither done nor in the queue already, whoever put it there;
                 then the run is seen through to its end, or left to the cluster
    jobscript    what a step's job is: its nodes and ranks, its environment, and how it meets its time limit
    watch        each step's job, found again by any process that sees the runs folder; cancelling
    commands     squeue, sacct and scancel, here or through ssh, and what they say of a job

What a site fills in is in `nemo_distill.launch.executors`, how NeMo-Run's experiment queues jobs in
`nemo_distill.launch.local`, and how the ranks of one job agree in `nemo_distill.run.ranks`. What is done, running or
cut is read off the steps'
folders (`nemo_distill.run.manifest`); Slurm is asked only what becomes of the rest. Tests bring up a real Slurm on this
machine:

    python tests/nemo_distill/launch/slurm/cluster_for_tests.py bash
"""
