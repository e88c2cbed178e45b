"""The schema: migrations make exactly what the code expects, and a newer database is left alone."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from sonant.errors import SetupError
from sonant.installation import open_store
from sonant.settings import Settings
from sonant.store.database.engine import Database
from sonant.store.database.schema import metadata


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'sonant.db'}")
    yield database
    database.close()


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


def test_indices_and_constraints_are_those_of_the_schema(database, tmp_path):
    """`compare_metadata` does not look at partial indices' conditions nor at foreign keys' actions."""
    database.migrate()
    made = Database(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made.engine)

    def described(engine):
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT type, name, sql FROM sqlite_master ORDER BY type, name"))
            statements = {
                (row.type, row.name): " ".join((row.sql or "").split())
                for row in rows
                if row.name != "alembic_version" and not row.name.startswith("sqlite_autoindex")
            }
        indices = {key: sql for key, sql in statements.items() if key[0] == "index"}
        looked = inspect(engine)
        keys = {
            table: sorted(
                (tuple(key["constrained_columns"]), key["referred_table"], str(key["options"]))
                for key in looked.get_foreign_keys(table)
            )
            for table in metadata.tables
        }
        return indices, keys, set(statements)

    assert described(database.engine) == described(made.engine)
    made.close()


def test_migrating_again_changes_nothing(database):
    database.migrate()
    with database.write() as connection:
        before = connection.execute(text("SELECT name, sql FROM sqlite_master")).all()
    database.migrate()
    with database.write() as connection:
        assert connection.execute(text("SELECT name, sql FROM sqlite_master")).all() == before


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
