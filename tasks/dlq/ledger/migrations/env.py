"""Alembic's entry: runs the migrations on the connection that `tasks.dlq.ledger.migrations.upgrade` hands over."""

from alembic import context

from tasks.dlq.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
