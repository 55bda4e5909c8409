"""What a row keeps of the machine, read from files that a test can write."""

from pathlib import Path

import pytest

from atalaya_serving.scoring.environment import cloud, is_container, machine


@pytest.mark.parametrize(
    ("field", "text", "name"),
    [
        ("sys_vendor", "Amazon EC2", "aws"),
        ("product_name", "Google Compute Engine", "gcp"),
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"),
        ("sys_vendor", "Hetzner", "hetzner"),
        ("sys_vendor", "Dell Inc.", ""),
        ("sys_vendor", "Microsoft Corporation", ""),
    ],
)
def test_a_cloud_is_known_by_its_firmware(tmp_path: Path, field: str, text: str, name: str) -> None:
    (tmp_path / field).write_text(f"{text}\n")
    assert cloud(tmp_path) == name


def test_no_firmware_tables_mean_no_cloud(tmp_path: Path) -> None:
    assert cloud(tmp_path / "nothing") == ""


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_known_by_its_mark(tmp_path: Path, mark: str) -> None:
    assert not is_container(tmp_path, {})
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert is_container(tmp_path, {})


def test_a_container_is_known_by_its_cgroup_or_environment(tmp_path: Path) -> None:
    assert is_container(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("0::/kubepods/burstable/pod1\n")
    assert is_container(tmp_path, {})


def test_this_machine_tells_all_that_a_row_keeps() -> None:
    told = machine()
    assert told["processor"]
    assert 1 <= int(told["physical_cores"]) <= int(told["logical_cores"])
    assert int(told["memory_bytes"]) > 1 << 28
    assert told["os"]
    assert told["os_version"]
