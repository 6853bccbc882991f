#!/bin/bash
# Ends what up.sh has started below $S, by the process ids it wrote down.
: "${S:?the folder given to up.sh}"
export SLURM_CONF=$S/slurm.conf
scancel --user=root 2> /dev/null
for _ in $(seq 40); do
    [ -z "$(squeue -h 2> /dev/null)" ] && break
    sleep 0.5
done
for name in slurmd slurmctld munge; do
    [ -f "$S/$name.pid" ] && kill "$(cat "$S/$name.pid")"
done
exit 0
