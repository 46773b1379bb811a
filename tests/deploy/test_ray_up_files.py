"""The cluster files of `ray up` as Ray's own validator sees them."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from deploy_files import DEPLOY, README, TOOLS, complaints, documents
from ray.autoscaler._private.util import prepare_config, validate_config

NAMES = sorted(path.name for path in (DEPLOY / "ray-up").iterdir())
FILES = {name: documents(f"ray-up/{name}")[0] for name in NAMES}
AWS = FILES["aws.yaml"]


@pytest.mark.parametrize("name", NAMES)
def test_ray_would_take_it(name: str) -> None:
    prepared = prepare_config(FILES[name])
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_ray_would_refuse_a_wrong_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(AWS | {"imagined": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_every_start_of_ray_asks_for_the_token_that_every_node_has(name: str) -> None:
    content = FILES[name]
    starts = [line for line in commands(content) if "ray start" in line]
    assert len(starts) == 2
    assert all(line.startswith("export RAY_AUTH_MODE=token ") for line in starts)
    assert ("/home/ubuntu/.ray/auth_token", "~/.ray/auth_token") in content["file_mounts"].items()
    assert content["auth"]["ssh_user"] == "ubuntu"
    assert ".env" in content["rsync_exclude"]  # the secrets of compose


@pytest.mark.parametrize("name", NAMES)
def test_workers_look_for_prepared_tokens_where_the_driver_puts_them(name: str) -> None:
    (driver,) = re.findall(r"ray exec --tmux [^\n]*(XDG_CACHE_HOME=[\w/.]+)", README)
    starts = [line for line in commands(FILES[name]) if "ray start" in line]
    assert all(f" {driver}; " in line for line in starts)
    assert driver.startswith("XDG_CACHE_HOME=/sweeps/")


@pytest.mark.parametrize("name", NAMES)
def test_a_stock_ubuntu_is_given_what_the_later_commands_take(name: str) -> None:
    first, *later = FILES[name]["setup_commands"]
    assert "python3-venv" in first
    assert ("nfs-common" in first) == any("mount -t nfs" in line for line in later)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_takes_no_work(name: str) -> None:
    (start,) = [line for line in FILES[name]["head_start_ray_commands"] if "ray start" in line]
    assert "--num-cpus=0" in start


def test_own_machines_are_all_there_from_the_start() -> None:
    types = prepare_config(FILES["on-premises.yaml"])["available_node_types"]
    (workers,) = [node for node in types.values() if node["max_workers"] > 0]
    assert workers["min_workers"] == workers["max_workers"]


def test_aws_starts_as_many_as_a_sweep_asks_for() -> None:
    workers = prepare_config(AWS)["available_node_types"]["gpu-spot"]
    assert workers["min_workers"] == 0
    assert f"cluster.workers={workers['max_workers']}" in README


@pytest.mark.parametrize("name", NAMES)
def test_its_commands_pass_shellcheck(name: str) -> None:
    for line in commands(FILES[name]):
        script = f"#!/bin/bash\nRAY_HEAD_IP=192.0.2.1\n: $RAY_HEAD_IP\n{line}\n"
        assert complaints(TOOLS / "shellcheck", "-", given=script) == ""


def test_aws_has_an_on_demand_head_and_spot_workers() -> None:
    head, workers = AWS["available_node_types"]["head"], AWS["available_node_types"]["gpu-spot"]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert workers["labels"] == {"ray.io/market-type": "spot"}


def test_the_readme_replaces_what_is_to_be_put_in() -> None:
    assert "RAY_UP_enable_autoscaler_v2=1" in README
    for zeros in ("ami-00000000000000000", "fs-00000000000000000"):
        assert zeros in (DEPLOY / "ray-up" / "aws.yaml").read_text()
        assert zeros in README


def commands(content: dict[str, Any]) -> list[str]:
    names = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    return [line for name in names for line in content[name]]
