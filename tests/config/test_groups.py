"""What hydra is told of the parts of a search."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from darts_gdas.config import groups
from darts_gdas.config.groups import store_part


@dataclass
class First:
    number: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Second:
    number: int = 2


@pytest.fixture(autouse=True)
def repo(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """A store of its own, empty."""
    monkeypatch.setattr(ConfigStore.instance(), "repo", {})
    monkeypatch.setattr(groups, "_STORED", {})
    yield ConfigStore.instance().repo


def test_a_part_stands_in_its_group_and_package(repo: dict):
    store_part("optimizer/schedule", "first", First)
    store_part("penalties", "first", First)
    store_part(None, "second", Second)
    assert repo["optimizer"]["schedule"]["first.yaml"].package is None
    assert repo["penalties"]["first.yaml"].package == "penalties.first"
    assert repo["second.yaml"].node == OmegaConf.structured(Second)


def test_mappings_of_a_choice_take_any_names(repo: dict):
    store_part("dataset", "first", First)
    node = repo["dataset"]["first.yaml"].node
    node.options.mine = 3
    assert node.options.mine == 3
    with pytest.raises(ConfigAttributeError):
        node.other = 3


def test_what_is_known_is_not_made_again_and_what_has_changed_is(repo: dict):
    def held() -> object:
        return repo["dataset"]["part.yaml"]

    store_part("dataset", "part", First)
    before = held()
    store_part("dataset", "part", First)
    assert held() is before
    store_part("dataset", "part", Second)  # another part by the same name
    after = held()
    assert after is not before and after.node.number == 2
    ConfigStore.instance().store(group="dataset", name="part", node=First)  # by somebody else
    store_part("dataset", "part", Second)
    assert held().node.number == 2
    repo.clear()
    store_part("dataset", "part", Second)
    assert held().node.number == 2
