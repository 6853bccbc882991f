#!/bin/bash
# One run on all GPUs of one node, which survives preemption and its time limit:
#
#     sbatch docs/slurm_job.sh search.py method=gdas dataset=cifar10
#     sbatch --gpus-per-node=8 --time=4:00:00 docs/slurm_job.sh train.py dataset=cifar10
#
# Options of sbatch go before the script; they win over the lines below. docs/cluster.md explains.
#SBATCH --job-name=darts_gdas
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR2@300
#SBATCH --open-mode=append
#SBATCH --output=slurm_%j.log

# A requeued job keeps its number, so it finds its folder. A run_dir among the arguments wins.
run_dir=outputs/slurm/$SLURM_JOB_ID
echo "job $SLURM_JOB_ID, start ${SLURM_RESTART_COUNT:-0}, on $(hostname)"

# With the store that restarted ranks share by default, they can meet addresses of dead ones.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Ahead of the time limit Slurm sends SIGUSR2 to this shell alone (B:), which passes it on: the
# ranks save and stop. Preemption, scancel and requeueing send SIGTERM to every process, so that
# one is only waited out.
out_of_time=no
pass_on() {
    out_of_time=yes
    kill -USR2 "$torchrun"
}
trap pass_on USR2
trap : TERM

torchrun --standalone --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" --max-restarts=1 \
    --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2 \
    "$1" run_dir="$run_dir" resume=auto "${@:2}" &
torchrun=$!

# A signal ends a wait early; torchrun has ended when it is no process any more.
while true; do
    wait "$torchrun"
    status=$?
    kill -0 "$torchrun" 2> /dev/null || break
done

# torchrun says 1 whether its ranks crashed or saved and stopped, so the reason is what counts: a
# job that ran out of time goes back to the queue, any other failure ends it. (After preemption
# Slurm requeues the job by itself.)
if [ $out_of_time = yes ] && [ $status -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
