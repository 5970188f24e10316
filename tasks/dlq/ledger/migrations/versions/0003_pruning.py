"""Let prune pass over what it keeps, and find the jobs that have many attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Prune looks once at each letter that is there."""
    op.add_column("dead_letters", sa.Column("kept_until", sa.BigInteger(), nullable=True))
    op.create_index("ix_dead_letters_kept", "dead_letters", ["kept_until", "received_at", "id"])
    op.drop_index("ix_dead_letters_received", table_name="dead_letters")
    op.create_index("ix_jobs_busy", "jobs", ["id"], sqlite_where=sa.text("calls > 100"), postgresql_where=sa.text("calls > 100"))


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_jobs_busy", table_name="jobs")
    op.create_index("ix_dead_letters_received", "dead_letters", ["received_at", "id"])
    op.drop_index("ix_dead_letters_kept", table_name="dead_letters")
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.drop_column("kept_until")
