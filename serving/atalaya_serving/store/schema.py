"""The tables, and `predictions`: the flat view that keeps, a row a prediction, what the 2020 system kept.

Assessments have an integer key beside their id, so that a tile's row stays small. A change that old rows do not fit
raises `VERSION`; a new column that may be empty does not: a store without it gets it when it is opened, and an older
Atalaya goes on writing there, leaving it empty.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

VERSION = 1
metadata = sa.MetaData()


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware datetimes on both databases; SQLite keeps no zone, so it is given UTC and gets it back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Give the database UTC."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Hand out aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))

scenes = sa.Table(
    "scenes",
    metadata,
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("width", sa.BigInteger, nullable=False),
    sa.Column("height", sa.BigInteger, nullable=False),
    sa.Column("crs", sa.Text, nullable=False),
    sa.Column("transform", sa.JSON, nullable=False),
    sa.Column("west", sa.Double, nullable=False),
    sa.Column("south", sa.Double, nullable=False),
    sa.Column("east", sa.Double, nullable=False),
    sa.Column("north", sa.Double, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

environments = sa.Table(
    "environments",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("engine_version", sa.Text, nullable=False),
    sa.Column("precision", sa.Text, nullable=False),
    sa.Column("protocol", sa.Text, nullable=False),
    sa.Column("processor", sa.Text, nullable=False),
    sa.Column("physical_cores", sa.Integer, nullable=False),
    sa.Column("logical_cores", sa.Integer, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("os", sa.Text, nullable=False),
    sa.Column("os_version", sa.Text, nullable=False),
    sa.Column("container", sa.Boolean, nullable=False),
    sa.Column("cloud", sa.Text, nullable=False),
)

assessments = sa.Table(
    "assessments",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("scene_digest", sa.String(71), sa.ForeignKey("scenes.digest"), nullable=False, index=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("model_digest", sa.String(71), nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("stretch_low", sa.Double),
    sa.Column("stretch_high", sa.Double),
    sa.Column("grid", sa.JSON, nullable=False),
    sa.Column("grid_rows", sa.Integer, nullable=False),
    sa.Column("grid_cols", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("tiles_total", sa.BigInteger, nullable=False),
    sa.Column("tiles_done", sa.BigInteger, nullable=False),
    sa.Column("warnings", sa.JSON(none_as_null=True)),
    sa.CheckConstraint("state IN ('running', 'complete', 'failed')", name="assessment_state"),
)

tiles = sa.Table(
    "tiles",
    metadata,
    sa.Column("assessment_key", sa.Integer, sa.ForeignKey("assessments.key"), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("col", sa.Integer, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("probability", sa.Double),
    sa.Column("inference_seconds", sa.Double),
    sa.Column("total_seconds", sa.Double),
    sa.Column("environment_key", sa.Integer, sa.ForeignKey("environments.key"), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.CheckConstraint("state IN (0, 1, 2)", name="tile_state"),
    sa.CheckConstraint("(state = 0) = (probability IS NULL)", name="tile_probability"),
    sqlite_with_rowid=False,
)

_STATES = {0: "not_assessed", 1: "not_damaged", 2: "damaged"}


def predictions() -> sa.Select[Any]:
    """The flat select behind the view `predictions`."""
    t, a, s, e = tiles.c, assessments.c, scenes.c, environments.c
    image = s.name + "_" + sa.cast(t.row, sa.Text) + "_" + sa.cast(t.col, sa.Text)
    damaged = sa.case((t.state == sa.literal_column("2"), 1), (t.state == sa.literal_column("1"), 0), else_=sa.null())
    state = sa.case(*((t.state == sa.literal_column(str(code)), name) for code, name in _STATES.items()))
    return sa.select(
        a.id.label("assessment"),
        image.label("image"),
        s.name.label("scene"),
        t.row,
        t.col,
        t.created_at.label("created"),
        state.label("prediction"),
        t.reason,
        t.probability,
        damaged.label("damaged"),
        t.inference_seconds,
        t.total_seconds,
        a.model,
        a.version,
        a.model_digest,
        *(column for column in environments.c if column.name not in {"key", "digest"}),
    ).select_from(
        tiles.join(assessments, t.assessment_key == a.key)
        .join(scenes, a.scene_digest == s.digest)
        .join(environments, t.environment_key == e.key)
    )


def create(connection: sa.Connection) -> None:
    """Make what is missing. Safe when two processes open a new store at once: both see the tables afterwards."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7233416)"))  # any number, the same for all of us
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    metadata.create_all(connection)
    _add_columns(connection)
    if connection.execute(sa.select(schema_version.c.version)).first() is None:
        connection.execute(schema_version.insert(), {"version": VERSION})
    names = sa.inspect(connection).get_view_names()
    if "predictions" not in names:
        body = predictions().compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        connection.exec_driver_sql(f"CREATE VIEW predictions AS {body}")


def _add_columns(connection: sa.Connection) -> None:
    """Give the tables of an older store the columns that came since; all of them may be empty."""
    found = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there and column.nullable:
                declared = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {declared}")
