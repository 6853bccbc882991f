#!/usr/bin/env bash
# up.sh FOLDER: two environments for the tests marked `sweepers`, beside this project's own, whose packages
# they see. Hydra's Optuna sweeper needs optuna < 3, so it cannot live where today's Optuna does, and the storage of that
# needs SQLAlchemy < 2, which pip does not know.
set -e
here=$(cd "$(dirname "$0")/../.." && pwd)
site=$("$here/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for name in "hydra-optuna-sweeper sqlalchemy<2 alembic<1.14" optuna; do
    packages=($name) name=${name%% *}
    "$here/.venv/bin/python" -m venv "$1/$name"
    echo "$site" > "$("$1/$name/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_project.pth"
    "$1/$name/bin/pip" install --quiet "${packages[@]}"
done
echo "export DARTS_GDAS_SWEEPERS=$1"
