"""What a checkpoint of a run holds, and the check that a file holds it."""

from darts_gdas.runtime.checkpoint import CheckpointError, State

SCHEMA = 2
"""Version of the checkpoints' layout."""

STATE_TYPES: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "kind": str,
    "fingerprint": str,
    "epoch": int,
    "step": int,
    "seconds": (int, float),
    "best": dict,
    "last": dict,
    "ranks": int,
    "meter": list,
    "random": list,
    "task": dict,
}
"""The parts of a checkpoint."""

UNFIT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What the parts of a foreign checkpoint may raise where they are put to use."""


def check_state(state: State, kind: str) -> None:
    """Raise a `CheckpointError` unless the state is of this kind of run and this version."""
    if state.get("schema") != SCHEMA:
        raise CheckpointError(
            f"the checkpoint has schema {state.get('schema')!r}, this version reads {SCHEMA}; go "
            "on with the version that wrote it, or start a new run"
        )
    if state.get("kind") != kind:
        raise CheckpointError(f"the checkpoint is of a {state.get('kind')}, this run is a {kind}")
    missing = STATE_TYPES.keys() - state.keys()
    if missing:
        raise CheckpointError(f"the checkpoint lacks {sorted(missing)}")
    wrong = [name for name, kinds in STATE_TYPES.items() if not isinstance(state[name], kinds)]
    if wrong:
        raise CheckpointError(f"the checkpoint is of no run of ours: {wrong} are of other types")
