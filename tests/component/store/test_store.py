"""The store on SQLite and on PostgreSQL: the same tests, the same answers."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from atalaya_serving.store import (
    Assessment,
    AssessmentUnknown,
    Environment,
    GridGeometry,
    Scene,
    SceneUnknown,
    Store,
    StoreUnavailable,
    TileRows,
    schema,
)
from databases import wait_until
from disks import small_disk

NOW = datetime(2026, 11, 22, 18, 30, 0, 123456, tzinfo=UTC)
GRID = GridGeometry("EPSG:32618", (0.5, 0.0, 783000.0, 0.0, -0.5, 2052000.0), 128, False)
SCENE = Scene(
    digest="sha256:" + "a" * 64,
    name="port",
    path="/scenes/port.tif",
    width=512,
    height=384,
    crs="EPSG:32618",
    transform=(0.5, 0.0, 783000.0, 0.0, -0.5, 2052000.0),
    bounds=(-72.3, 18.5, -72.2, 18.6),
    created_at=NOW,
)
ENVIRONMENT = Environment(
    "openvino", "2026.4", "f32", "in-process", "Xeon", 2, 4, 8 << 30, "Debian", "12", False, "a cloud"
)


def assessment(**changes: object) -> Assessment:
    made = Assessment(
        id="one",
        scene_digest=SCENE.digest,
        scene_name="port",
        model="haiti-damage",
        version=1,
        model_digest="sha256:" + "b" * 64,
        manifest={"name": "haiti-damage", "output": {"threshold": 0.5}},
        parameters={"scale": None},
        stretch=None,
        grid=GRID,
        grid_rows=3,
        grid_cols=4,
        state="running",
        message="",
        created_at=NOW,
        finished_at=None,
        tiles_total=12,
        tiles_done=0,
    )
    return replace(made, **changes)


def rows(*positions: tuple[int, int], probability: float = 0.75, reason: str = "") -> TileRows:
    row, col = np.array(positions, np.int32).T
    value = np.nan if reason else probability
    state = 0 if reason else 1 + (probability >= 0.5)
    return TileRows(
        row=row,
        col=col,
        state=np.full(len(row), state, np.uint8),
        reason=reason,
        probability=np.full(len(row), value),
        inference_seconds=0.001,
        total_seconds=0.002,
        created_at=NOW,
    )


@pytest.fixture
def journal(store: Store) -> tuple[Store, int]:
    store.put_scene(SCENE)
    store.begin(assessment())
    return store, store.put_environment(ENVIRONMENT)


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.scenes() == []
    assert store.assessments() == []
    assert store.find("one") is None


def test_a_scene_comes_back_as_it_was(store: Store) -> None:
    store.put_scene(SCENE)
    assert store.scenes() == [SCENE]
    assert store.scene(SCENE.digest) == SCENE


def test_a_scene_that_moved_has_its_new_path(store: Store) -> None:
    store.put_scene(SCENE)
    store.put_scene(replace(SCENE, path="/elsewhere/harbour.tif", name="harbour"))
    (scene,) = store.scenes()
    assert (scene.path, scene.name) == ("/elsewhere/harbour.tif", "harbour")


def test_an_assessment_comes_back_as_it_was(store: Store) -> None:
    store.put_scene(SCENE)
    begun = assessment(stretch=(12.5, 1800.0), warnings=("coarse", "two, with a comma"))
    assert store.begin(begun) == begun
    assert store.assessment("one") == begun


def test_assessments_are_listed_newest_first(store: Store) -> None:
    store.put_scene(SCENE)
    for number, name in enumerate(["old", "middle", "new"]):
        store.begin(assessment(id=name, created_at=NOW + timedelta(seconds=number)))
    assert [each.id for each in store.assessments()] == ["new", "middle", "old"]


def test_rows_come_back_by_row_and_column(journal: tuple[Store, int]) -> None:
    store, key = journal
    assert store.add_tiles("one", key, [rows((1, 1), (0, 3)), rows((0, 0), reason="nodata")]) == 3
    table = store.tiles("one")
    assert list(zip(table.row, table.col, strict=True)) == [(0, 0), (0, 3), (1, 1)]
    assert table.state.tolist() == [0, 2, 2]
    assert table.reason.tolist() == ["nodata", "", ""]
    np.testing.assert_array_equal(table.probability, [np.nan, 0.75, 0.75])
    np.testing.assert_array_equal(table.inference_seconds, [np.nan, 0.001, 0.001])
    np.testing.assert_array_equal(table.total_seconds, [np.nan, 0.002, 0.002])
    assert table.created_at[0] == np.datetime64("2026-11-22T18:30:00.123456")
    assert store.environments()[int(table.environment[0])] == ENVIRONMENT


def test_footprints_are_in_degrees_from_the_upper_left_clockwise(journal: tuple[Store, int]) -> None:
    store, key = journal
    store.add_tiles("one", key, [rows((0, 0))])
    table = store.tiles("one")
    expected = [[-72.31923469, 18.53966665], [-72.31862893, 18.53965805]]  # the truth file's first tile
    np.testing.assert_allclose(table.corners[0, :2], expected, atol=1e-8)
    np.testing.assert_allclose(table.corners[0, 3], [-72.31924371, 18.53908885], atol=1e-8)
    np.testing.assert_allclose(table.center[0], table.corners[0].mean(axis=0))


def test_an_assessment_without_rows_has_an_empty_table(journal: tuple[Store, int]) -> None:
    table = journal[0].tiles("one")
    assert len(table) == 0
    assert table.corners.shape == (0, 4, 2)


def test_a_row_that_is_there_stays_and_is_not_counted_twice(journal: tuple[Store, int]) -> None:
    store, key = journal
    store.add_tiles("one", key, [rows((0, 0), (0, 1))])
    assert store.add_tiles("one", key, [rows((0, 1), (0, 2), probability=0.1)]) == 1
    assert store.tiles("one").probability.tolist() == [0.75, 0.75, 0.1]
    assert store.assessment("one").tiles_done == 3


def test_the_tiles_that_are_done_are_known(journal: tuple[Store, int]) -> None:
    store, key = journal
    assert not store.done(store.assessment("one")).any()
    store.add_tiles("one", key, [rows((0, 1), (2, 3))])
    done = store.done(store.assessment("one"))
    assert done.shape == (3, 4)
    assert np.argwhere(done).tolist() == [[0, 1], [2, 3]]


def test_beginning_again_keeps_the_rows(journal: tuple[Store, int]) -> None:
    store, key = journal
    store.add_tiles("one", key, [rows((0, 1))])
    store.end("one", "failed", "the disk was full")
    assert store.assessment("one").message == "the disk was full"
    again = store.begin(assessment(created_at=NOW + timedelta(days=1)))
    assert (again.state, again.message, again.tiles_done, again.created_at) == ("running", "", 1, NOW)


def test_beginning_again_keeps_the_newest_warnings(store: Store) -> None:
    store.put_scene(SCENE)
    store.begin(assessment(warnings=("one",)))
    assert store.begin(assessment(warnings=("two", "three"))).warnings == ("two", "three")
    assert store.begin(assessment()).warnings == ()


def test_a_store_from_before_there_were_warnings_opens_and_takes_them(store: Store, store_url: str) -> None:
    store.put_scene(SCENE)
    store.begin(assessment(id="old"))
    store.close()
    engine = sa.create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE assessments DROP COLUMN warnings")
        grid = {name: value for name, value in asdict(GRID).items() if name != "meridian"}
        connection.execute(schema.assessments.update().values(grid=grid))
    engine.dispose()
    with Store.open(store_url) as again:
        assert again.assessment("old").warnings == ()
        assert again.assessment("old").grid == GRID
        assert again.begin(assessment(id="new", warnings=("coarse",))).warnings == ("coarse",)
        insert = "INSERT INTO assessments SELECT {} FROM assessments WHERE id = 'new'"
        columns = [column.name for column in schema.assessments.columns if column.name != "warnings"]
        picked = ", ".join({"key": "99", "id": "'older program'"}.get(name, name) for name in columns)
        statement = insert.format(picked).replace("assessments SELECT", f"assessments ({', '.join(columns)}) SELECT")
        with again._engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert again.assessment("older program").warnings == ()


def test_a_finished_assessment_says_when(journal: tuple[Store, int]) -> None:
    store, _ = journal
    store.end("one", "complete")
    ended = store.assessment("one")
    assert ended.state == "complete"
    assert ended.finished_at is not None
    assert abs(datetime.now(UTC) - ended.finished_at) < timedelta(minutes=1)


def test_an_equal_environment_keeps_its_key(store: Store) -> None:
    key = store.put_environment(ENVIRONMENT)
    other = store.put_environment(replace(ENVIRONMENT, protocol="grpc"))
    assert store.put_environment(ENVIRONMENT) == key != other


def test_the_view_keeps_what_the_thesis_kept(journal: tuple[Store, int], store_url: str) -> None:
    store, key = journal
    store.add_tiles("one", key, [rows((1, 2), probability=0.25), rows((0, 0), reason="nodata"), rows((2, 2))])
    engine = sa.create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = connection.exec_driver_sql('SELECT * FROM predictions ORDER BY "row", col').mappings().all()
    engine.dispose()
    assert [(each["prediction"], each["damaged"]) for each in found] == [
        ("not_assessed", None),
        ("not_damaged", 0),
        ("damaged", 1),
    ]
    second = dict(found[1])
    assert second["image"] == "port_1_2"
    assert str(second["created"]).startswith(("2026-11-22 18:30:00.123456", "2026-11-23 03:30:00.123456+09:00"))
    kept = ["engine", "protocol", "processor", "physical_cores", "logical_cores", "memory_bytes", "os", "os_version"]
    assert [second[name] for name in kept] == ["openvino", "in-process", "Xeon", 2, 4, 8 << 30, "Debian", "12"]
    assert (bool(second["container"]), second["cloud"]) == (False, "a cloud")
    assert (second["inference_seconds"], second["total_seconds"]) == (0.001, 0.002)


def test_many_threads_lose_and_double_no_row(journal: tuple[Store, int]) -> None:
    store, key = journal
    parts = [[rows((row, col)) for col in range(4)] for row in range(3)] * 2
    threads = [threading.Thread(target=store.add_tiles, args=("one", key, part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.tiles("one")) == 12
    assert store.assessment("one").tiles_done == 12


def test_two_processes_may_make_a_new_store_at_once(store_url: str) -> None:
    program = "import sys; from atalaya_serving.store import Store; Store.open(sys.argv[1]).close()"
    command = [sys.executable, "-c", program, store_url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[1] for process in started] == [""] * 3
    with Store.open(store_url) as store:
        assert store.scenes() == []


def test_a_reader_sees_whole_batches_while_a_writer_writes(journal: tuple[Store, int], store_url: str) -> None:
    store, key = journal
    batches = [rows(*[(row, col) for col in range(4)]) for row in range(3)]
    seen: list[int] = []
    with Store.open(store_url) as reader:
        writer = threading.Thread(target=lambda: [store.add_tiles("one", key, [batch]) for batch in batches])
        writer.start()
        wait_until(lambda: seen.append(len(reader.tiles("one"))) or seen[-1] == 12)  # type: ignore[func-returns-value]
        writer.join()
    assert set(seen) <= {0, 4, 8, 12}


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(AssessmentUnknown, match=r"has no assessment nothing; list them, or assess first\.$"):
        store.assessment("nothing")
    with pytest.raises(SceneUnknown, match=r"has no scene sha256:0; assess it first\.$"):
        store.scene("sha256:0")


def test_a_store_of_another_schema_is_refused(store: Store, store_url: str) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 99")
    with pytest.raises(StoreUnavailable, match=r"has schema 99 and this Atalaya knows 1; use the Atalaya that wrote"):
        Store.open(store_url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(
            "nonsense", r"^the store's address cannot be read: it does not begin with the kind", id="nonsense"
        ),
        pytest.param("/data/store.db", r"^the store's address cannot be read.*give sqlite:///FILE or", id="a path"),
        pytest.param("postgresql://a:secret@b:port/c", r"cannot be read: its port is no number; give", id="no port"),
        pytest.param(
            "sqlite:///", r"^sqlite:/// names no file, so its rows would be lost at once;", id="no file named"
        ),
        pytest.param("sqlite:///:memory:", r"names no file, so its rows would be lost", id="memory"),
        pytest.param("sqlite://host/x", r"\(a file needs three slashes, or four\)", id="two slashes"),
        pytest.param("sqlite:////tmp", r"^the store sqlite:////tmp is a folder; name a file in it", id="a folder"),
        pytest.param("mysql://a:secret@b/c", r"^mysql://a:\*\*\*@b/c is not a store's address", id="another database"),
        pytest.param(
            "sqlite+what:///x", r"is not a store's address \(sqlite\+what is not known\)", id="no such driver"
        ),
        pytest.param(
            "postgresql://me:secret@127.0.0.1:1/x",
            r"^the store postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x cannot be used .*check the address",
            id="no server there",
        ),
        pytest.param("sqlite:////dev/null/store.db", r"^the store's folder /dev/null cannot be made", id="no folder"),
        pytest.param("sqlite:////proc/store.db", r"^the store sqlite:////proc/store.db cannot be used", id="no file"),
    ],
)
def test_a_store_that_cannot_be_opened_is_said_without_its_password(url: str, message: str) -> None:
    with pytest.raises(StoreUnavailable, match=message) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, and long enough to have a header of its own " * 20)
    before = file.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"\(file is not a database\); it is a file of another kind: name anot"):
        Store.open(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """As a GeoPackage is one."""
    file = tmp_path / "damage.gpkg"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE gpkg_contents (x)")
    before = file.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"damage.gpkg is a database of something else \(it has tables, and non"):
        Store.open(f"sqlite:///{file}")
    assert file.read_bytes() == before


FILL = """
import sys
from atalaya_serving.store import Store, StoreFull
from test_store import SCENE, ENVIRONMENT, assessment, rows
with Store.open(sys.argv[1]) as store:
    store.put_scene(SCENE)
    store.begin(assessment(grid_rows=2000, grid_cols=100, tiles_total=200000))
    key = store.put_environment(ENVIRONMENT)
    try:
        for row in range(2000):
            store.add_tiles("one", key, [rows(*[(row, col) for col in range(100)])])
    except StoreFull as error:
        print(error)
with Store.open(sys.argv[1]) as store:
    print(row * 100, len(store.tiles("one")), store.assessment("one").tiles_done)
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{tests}:{tests.parents[1]}"}
    command = small_disk(tmp_path, "1m", [sys.executable, "-c", FILL, f"sqlite:///{tmp_path / 'store.db'}"])
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    said, counted = ran.stdout.splitlines()
    assert "has no room" in said
    assert "run the same command again" in said
    committed, kept, done = map(int, counted.split())
    assert committed == kept == done > 0
