"""From a store's address to an engine; refuses what is no address of ours before anything is opened."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from atalaya_serving.store.errors import StoreUnavailable
from atalaya_serving.store.schema import schema_version

_BUSY_TIMEOUT_SECONDS = 30
_FORMS = "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE in ATALAYA_STORE_URL"


def engine_of(url: str) -> sa.Engine:
    """The engine behind a store's address. Raises StoreUnavailable, with no password in it."""
    address = _address(url)
    told = address.render_as_string(hide_password=True)
    if address.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(address, pool_pre_ping=True)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreUnavailable(f"{told} needs a driver that is not installed; {_FORMS}.") from error
    return _sqlite(address, told)


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        port = isinstance(error, ValueError)
        # Not repeated: what cannot be read may hold a password.
        fact = "its port is no number" if port else "it does not begin with the kind of a database, as sqlite:///"
        raise StoreUnavailable(f"the store's address cannot be read: {fact}; {_FORMS}.") from error
    if address.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return address.set(drivername="postgresql+psycopg")
    if address.drivername not in {"sqlite", "sqlite+pysqlite"}:
        told = address.render_as_string(hide_password=True)
        raise StoreUnavailable(f"{told} is not a store's address ({address.drivername} is not known); {_FORMS}.")
    return address


def _sqlite(address: sa.URL, told: str) -> sa.Engine:
    if address.host:
        raise StoreUnavailable(f"{told} is not a store's address (a file needs three slashes, or four); {_FORMS}.")
    if address.database in {None, "", ":memory:"}:
        raise StoreUnavailable(f"{told} names no file, so its rows would be lost at once; {_FORMS}.")
    file = Path(str(address.database))
    _make_folder(file.parent)
    if file.is_dir():
        raise StoreUnavailable(f"the store {told} is a folder; name a file in it in ATALAYA_STORE_URL.")
    if not _may_be_ours(file):
        raise StoreUnavailable(
            f"the store {told} is a database of something else (it has tables, and none is the store's); name another "
            "file in ATALAYA_STORE_URL."
        )
    engine = sa.create_engine(address, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _tune(connection: Any, _: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"the store's folder {folder} cannot be made ({error.strerror}); set ATALAYA_HOME or ATALAYA_STORE_URL to "
            "a place you may write to."
        ) from error


def _may_be_ours(file: Path) -> bool:
    """Whether a file is a store, new, or no database at all, which opening it tells. Looked at without a change to it:
    opening a database for writing leaves a mark in its header."""
    if not file.is_file():
        return True
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return True
    return not found or schema_version.name in found
