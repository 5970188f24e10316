"""Keep the bytes that arrived beside those that a person repaired them to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. All that is there has its original bytes."""
    op.add_column("dead_letters", sa.Column("original_body", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.drop_column("original_body")
