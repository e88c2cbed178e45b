"""The schema: migrations make exactly what the code expects, and a newer database is left alone."""

from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import DATABASES
from sqlalchemy import inspect, text

from sonant.assembly.installation import open_store
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.database import engine
from sonant.storage.database.engine import Database, newest_revision
from sonant.storage.database.schema import metadata


@pytest.fixture(params=DATABASES)
def new_database(request, tmp_path):
    """Makes databases without tables."""
    with ExitStack() as stack:

        def make():
            if request.param == "sqlite":
                url = f"sqlite:///{tmp_path / token_hex(4)}.db"
            else:
                url = stack.enter_context(request.getfixturevalue("postgres_server").empty())
            database = Database(url)
            stack.callback(database.close)
            return database

        yield make


@pytest.fixture
def database(new_database):
    return new_database()


def differences(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, metadata)


def test_a_fresh_database_that_was_migrated_is_what_the_schema_says(database):
    assert differences(database) != [], "an empty database differs"
    database.migrate()
    assert differences(database) == []


def test_a_column_that_no_migration_made_is_noticed(database):
    database.migrate()
    with database.write() as connection:
        connection.execute(text("ALTER TABLE speakers ADD COLUMN nickname TEXT"))
    assert [item[0] for item in differences(database)] == ["remove_column"]


_ALL = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
    "postgresql": "SELECT 'index' AS type, indexname AS name, indexdef AS sql FROM pg_indexes "
    "WHERE schemaname = 'public' UNION ALL SELECT 'table', table_name || '.' || column_name, "
    "data_type || coalesce(column_default, '') || is_nullable FROM information_schema.columns "
    "WHERE table_schema = 'public'",
}


def described(engine):
    """Indices with their statements, foreign keys with their actions, and the names of all there is."""
    with engine.connect() as connection:
        rows = connection.execute(text(_ALL[engine.dialect.name]))
        statements = {
            (row.type, row.name): " ".join((row.sql or "").split())
            for row in rows
            if not row.name.startswith("alembic_version")
        }
    looked = inspect(engine)
    keys = {
        table: sorted(
            (tuple(key["constrained_columns"]), key["referred_table"], str(key["options"]))
            for key in looked.get_foreign_keys(table)
        )
        for table in metadata.tables
    }
    return {key: sql for key, sql in statements.items() if key[0] == "index"}, keys, set(statements)


def test_indices_and_constraints_are_those_of_the_schema(database, new_database):
    """`compare_metadata` does not look at partial indices' conditions nor at foreign keys' actions."""
    database.migrate()
    made = new_database()
    metadata.create_all(made.engine)
    assert described(database.engine) == described(made.engine)


def test_newest_migration_has_the_highest_number():
    folder = Path(engine.__file__).with_name("migrations")
    assert newest_revision(folder) == ScriptDirectory(str(folder)).get_current_head()


def test_migrating_again_changes_nothing(database):
    database.migrate()
    before = described(database.engine)
    database.migrate()
    assert described(database.engine) == before


def test_a_database_of_a_later_release_is_refused_and_left_as_it_is(tmp_path):
    settings = Settings(data=tmp_path / "data")
    store = open_store(settings, create=True)
    store.database.close()
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'f00dfeed0042'"))
    with pytest.raises(SetupError, match="the database was made by another release of Sonant"):
        open_store(settings, create=True)
    with store.database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "f00dfeed0042"
    store.database.close()
