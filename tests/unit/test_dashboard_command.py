"""How the pages are started, and that nothing of it leaves the machine."""

import sys
import tomllib
from pathlib import Path

import pytest

from atalaya_dashboard.command import APP, command_from
from atalaya_dashboard.exports import FORMATS, exported, file_name
from atalaya_dashboard.settings import Settings
from atalaya_serving.store import Store
from builders_dashboard import a_town, an_assessed_town


def options(arguments: list[str]) -> dict[str, str]:
    command = command_from(arguments)
    assert command[:5] == [sys.executable, "-m", "streamlit", "run", str(APP)]
    return dict(flag.removeprefix("--").split("=", 1) for flag in command[5:])


def test_the_pages_listen_on_this_machine_only_unless_told() -> None:
    found = options([])
    assert (found["server.address"], found["server.port"]) == ("127.0.0.1", "8501")
    found = options(["--port", "9999", "--address", "0.0.0.0"])
    assert (found["server.address"], found["server.port"]) == ("0.0.0.0", "9999")


def test_nothing_is_reported_home_and_no_stack_trace_is_shown() -> None:
    found = options([])
    assert found["browser.gatherUsageStats"] == "false"
    assert found["client.showErrorDetails"] == "none"
    assert not any("font" in name.lower() and "http" in value for name, value in found.items())


def test_a_wrong_flag_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_from(["--port", "web"])
    assert ended.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "ATALAYA_HOME": str(tmp_path),
            "ATALAYA_MODEL_REPO": "/models",
            "ATALAYA_ENDPOINT": " 127.0.0.1:9000 ",
            "ATALAYA_METRICS_URLS": "http://a/metrics, http://b/metrics,",
        }
    )
    assert settings.paths.scenes == tmp_path / "scenes"
    assert settings.model_repository == Path("/models")
    assert settings.endpoint == "127.0.0.1:9000"
    assert settings.metrics_urls == ("http://a/metrics", "http://b/metrics")
    assert Settings.from_env({"HOME": str(tmp_path)}).metrics_urls == ()


def test_the_assets_and_views_are_in_the_package() -> None:
    project = tomllib.loads((APP.parents[2] / "pyproject.toml").read_text())
    assert "dashboard/atalaya_dashboard" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {path.name for path in (APP.parent / "assets").iterdir()} >= {"logo.svg", "icon.png"}


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.title)
def test_a_download_has_a_row_a_tile(tmp_path: Path, kind: object) -> None:
    import geopandas
    import pandas

    (known,) = [form for form in FORMATS if form == kind]
    assessment = an_assessed_town(tmp_path, a_town(6, 6))
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        content = exported(store, assessment, known)
    path = tmp_path / file_name(assessment, known)
    path.write_bytes(content)
    read = {".csv": pandas.read_csv, ".parquet": geopandas.read_parquet}.get(known.suffix, geopandas.read_file)
    frame = read(path)
    assert len(frame) == 36
    assert set(frame["state"]) <= {"damaged", "not_damaged", "not_assessed"}
    assert path.name == f"synthetic-town-haiti-damage-v1{known.suffix}"


def test_a_partial_assessment_says_so_in_its_file_name(tmp_path: Path) -> None:
    assessment = an_assessed_town(tmp_path, a_town(4, 4), state="running")
    assert file_name(assessment, FORMATS[0]).endswith("-partial.geojson")
