# One command each: make search | train | test | bench | tensorboard | docs. The first one installs.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: search train test test-oldest test-newest bench tensorboard docs lint format lock install clean

search: .venv/installed  ## search for a cell (make search ARGS="method=darts")
	$(BIN)/python search.py $(ARGS)

train: .venv/installed  ## retrain the newest searched cell
	$(BIN)/python train.py $(ARGS)

test: .venv/installed  ## run the tests
	@$(BIN)/python -m compileall -q darts_gdas  # hundreds of programs are started, which need not compile it again
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

OLDEST ?= python3.10
NEWEST ?= python3.13

test-oldest:  ## tests with the oldest versions allowed, apart (make test-oldest OLDEST=/path/to/python3.10 ARGS=tests)
	tests/versions/run.sh oldest $(OLDEST) $(ARGS)

test-newest:  ## tests with today's versions, apart
	tests/versions/run.sh newest $(NEWEST) $(ARGS)

bench: .venv/installed  ## measure; prints the tables of docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

tensorboard: .venv/installed  ## look at the curves of every run under outputs/
	$(BIN)/tensorboard --logdir outputs $(ARGS)

docs: .venv/docs  ## build the site into build/site; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK = uv pip compile --quiet --universal --python-version 3.10 --constraint constraints.txt --extra dev --extra slurm \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" pyproject.toml

lock:  ## write lock.txt anew: all versions and hashes behind constraints.txt (needs uv)
	$(LOCK) --output-file lock.txt

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 13) or sys.exit("darts_gdas needs Python 3.10 to 3.13, this is %d.%d; choose one with: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "installing into .venv, once; PyTorch is large, so this can take some minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

.venv/docs: .venv/installed
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv
