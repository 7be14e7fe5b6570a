"""Run migrations on the connection that sweeper/ledger/schema.py opened, in its transaction."""

from alembic import context

from sweeper.ledger.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
