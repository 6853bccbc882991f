"""What a process knows of parts, put back after a test has added some."""

import contextlib
import copy
from collections.abc import Iterator

from hydra.core.config_store import ConfigStore

from darts_gdas.config import GROUPS
from darts_gdas.nets import OPERATIONS
from darts_gdas.nets.layout import SKELETONS
from darts_gdas.runtime.plugins import load_plugins
from darts_gdas.scoring.scores import SCORES
from darts_gdas.space.families import FAMILIES


@contextlib.contextmanager
def parts_put_back() -> Iterator[None]:
    """Inside, parts can be registered; outside, there are those of before."""
    repo = ConfigStore.instance().repo
    ours = {"method", *(group.split("/")[0] for group in GROUPS)}  # others are hydra's own
    known = copy.deepcopy({name: repo[name] for name in ours & repo.keys()})
    tables = [OPERATIONS, SKELETONS, FAMILIES, SCORES, *GROUPS.values()]
    before = [dict(table) for table in tables]
    load_plugins.cache_clear()
    try:
        yield
    finally:
        for table, was in zip(tables, before, strict=True):
            table.clear()
            table.update(was)
        for name in ours:
            repo.pop(name, None)
        repo.update(known)
        load_plugins.cache_clear()
