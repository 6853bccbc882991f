#!/usr/bin/env bash
# hydra-optuna-sweeper 1.3.0 with hydra-core 1.3.8, as pip resolves it today: optuna 2.10.1, SQLAlchemy 2.1.9
# (seen 2026-11-28).
#
# The sweeper runs a study that lives in memory. With a storage, which is what lets a study be seen, shared or
# continued (`hydra.sweeper.storage=sqlite:///study.db`), it ends before the first job in an AssertionError
# without a word: optuna 2.10.1 names no upper bound for SQLAlchemy and reads the version table by a query whose
# result SQLAlchemy 2 shapes otherwise. hydra's message has no text after the type of the error, so nothing points
# at the database. With `sqlalchemy<2` (and an alembic of its time, `alembic<1.14`) the same command runs and the
# study's best value is the smallest of the function.
#
# Output seen: "AssertionError", exit status 1; with the older packages, best_value in optimization_results.yaml.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hydra-core==1.3.8 hydra-optuna-sweeper==1.3.0 optuna==2.10.1 sqlalchemy==2.1.9 numpy==1.26.4
cat > "$folder/app.py" <<'PYTHON'
import hydra


@hydra.main(version_base="1.3", config_path=None, config_name=None)
def main(cfg) -> float:
    return (float(cfg.x) - 2) ** 2 + 5


if __name__ == "__main__":
    main()
PYTHON
cd "$folder"
sweep() {
    "$folder/venv/bin/python" -W ignore app.py -m hydra/sweeper=optuna hydra.sweeper.n_trials=12 hydra.sweeper.sampler.seed=1 hydra.sweeper.n_jobs=1 \
        hydra.sweeper.study_name=parabola "hydra.sweep.dir=$1" '+x=choice(1,2,3,4)' "${@:2}" > "$1.log" 2>&1
}
sweep memory
grep "best_value: 5.0" memory/optimization_results.yaml
if sweep stored "hydra.sweeper.storage=sqlite:///$folder/study.db"; then
    echo "the behaviour has changed: a storage works with SQLAlchemy 2"
    exit 1
fi
grep -q '^AssertionError' stored.log || { tail -5 stored.log; echo "the behaviour has changed"; exit 1; }
grep -m 1 '^AssertionError' stored.log
rm -f study.db
"$folder/venv/bin/pip" install --quiet "sqlalchemy<2" "alembic<1.14"
sweep older "hydra.sweeper.storage=sqlite:///$folder/study.db"
grep "best_value: 5.0" older/optimization_results.yaml
echo "as described"
