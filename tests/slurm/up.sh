#!/bin/bash
# A Slurm of one machine, on loopback only, for the tests: run as root; everything lies below $S.
# Two GPUs are declared that are none, so that jobs can ask for them.
set -eu
: "${S:?a folder for state and logs}"
host=$(hostname -s)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
mkdir -p "$S"/{spool,state,log,munge}
chmod 0755 "$S" "$S/munge"

(umask 077; dd if=/dev/urandom of="$S/munge/key" bs=128 count=1 status=none)
chmod 0400 "$S/munge/key"
munged --force --key-file="$S/munge/key" --socket="$S/munge/socket" --pid-file="$S/munge.pid" \
    --seed-file="$S/munge/seed" --log-file="$S/munge/log" --num-threads=2

printf 'Name=gpu File=/dev/%s\n' null zero > "$S/gres.conf"  # any two devices
cat > "$S/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/munge/socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=26817
SlurmdPort=26818
SrunPortRange=60001-60100
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool
SlurmctldPidFile=$S/slurmctld.pid
SlurmdPidFile=$S/slurmd.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=30
InactiveLimit=0
SchedulerParameters=sched_interval=1,bf_interval=1
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=60 State=UP
END
export SLURM_CONF=$S/slurm.conf
slurmctld -f "$SLURM_CONF" -c
slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 60); do
    sinfo -h -o %T 2> /dev/null | grep -q idle && exit 0
    sleep 0.5
done
echo "the node did not come up; see $S/log" >&2
exit 1
