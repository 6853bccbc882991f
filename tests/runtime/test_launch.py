import os

import pytest

from darts_gdas.runtime.launch import first_host, is_follower, joined, refuse_ranks, take_gpu


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has started several processes."""
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    for name in {*names, *(name for name in os.environ if name.startswith("SLURM_"))}:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a number from 1 on, got 'two'"),
        ({"WORLD_SIZE": "2"}, "MASTER_ADDR is not set; start with torchrun"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK must be a number"),
        (
            {"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1", "RANK": "2"},
            "RANK must be less than WORLD_SIZE=2, got 2",
        ),
    ],
)
def test_variables_that_make_no_sense_are_named(
    bare: pytest.MonkeyPatch, variables: dict[str, str], message: str
):
    for name, value in variables.items():
        bare.setenv(name, value)
    with pytest.raises(ValueError, match=message), joined(1.0):
        pass


def test_a_timeout_that_is_none_is_refused(bare: pytest.MonkeyPatch):
    bare.setenv("WORLD_SIZE", "2")
    message = "rank_timeout_minutes must be positive, got 0"
    with pytest.raises(ValueError, match=message), joined(0.0):
        pass


def test_tasks_of_srun_are_ranks_and_a_batch_script_is_none(bare: pytest.MonkeyPatch):
    bare.setenv("SLURM_NTASKS", "3")
    bare.setenv("SLURM_JOB_ID", "17")
    assert not is_follower() and "WORLD_SIZE" not in os.environ
    for name, value in (("PROCID", "2"), ("LOCALID", "1"), ("STEP_ID", "0")):
        bare.setenv(f"SLURM_{name}", value)
    bare.setenv("SLURM_STEP_NODELIST", "gpu[03-07,12]")
    assert is_follower()
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR")
    assert [os.environ[name] for name in names] == ["3", "2", "1", "gpu03"]
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 40000


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("localhost", "localhost"),
        ("a,b", "a"),
        ("gpu[03-07,12],x1", "gpu03"),
        ("n[5]", "n5"),
        ("rack[1-2]-ib,x", "rack1-ib"),
    ],
)
def test_the_first_host_of_a_list(hosts: str, first: str):
    assert first_host(hosts) == first


def test_no_hosts_are_an_error():
    with pytest.raises(ValueError, match="this is no list of hosts: ''"):
        first_host("")


def test_a_program_for_one_process_refuses_several(bare: pytest.MonkeyPatch):
    bare.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="a ranking runs in a single process, this is one of 4"):
        refuse_ranks("a ranking")


@pytest.mark.parametrize(
    ("visible", "number", "left"),
    [("0,1,2", 0, "0"), ("0,1,2", 5, "2"), ("GPU-a,GPU-b", 1, "GPU-b"), ("", 3, "")],
)
def test_processes_of_one_machine_go_round_its_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, number: int, left: str
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    take_gpu(number)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
