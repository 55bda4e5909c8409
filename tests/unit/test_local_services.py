"""How the services of one machine are started, without starting them."""

from pathlib import Path

from atalaya.local_services import GRACE_SECONDS, Addresses, LocalRun, Services, server_program
from atalaya_serving.paths import Paths
from atalaya_serving.settings import parse_settings


def test_the_server_is_ended_by_force_only_after_its_own_drain(tmp_path: Path) -> None:
    paths = Paths.from_env({"ATALAYA_HOME": str(tmp_path)})
    services = Services((), (), Addresses("127.0.0.1", 9000, 8000, 0), paths)
    config = tmp_path / "models.json"
    config.write_text('{"model_config_list": []}')
    command = server_program(config, services, {}).command
    drain_seconds = parse_settings(command[command.index("--config_path") :]).drain_seconds
    assert drain_seconds < GRACE_SECONDS
    assert LocalRun(services, print).supervisor.grace_seconds == GRACE_SECONDS
