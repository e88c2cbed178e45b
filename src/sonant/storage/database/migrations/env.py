"""Alembic's entry: runs the migrations on the connection of `Database.migrate`."""

from alembic import context

from sonant.storage.database.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
