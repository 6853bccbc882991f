#!/bin/sh
# The programs by their names, in a container: entry.sh search|train|score|compare [key=value ...]
# With RANKS=4 in the environment a search or a training runs on four ranks. Any other command is
# run as it stands.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-search}
case $program in
    search | train)
        shift
        if [ "${RANKS:-1}" = 1 ]; then
            exec python "$home/$program.py" "$@"
        fi
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        exec torchrun --standalone --nproc-per-node="$RANKS" \
            --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2 \
            "$home/$program.py" "$@"
        ;;
    score | compare)
        shift
        exec python -m "darts_gdas.$program" "$@"
        ;;
    *)
        exec "$@"
        ;;
esac
