"""Tally the first and the last offset of each stream."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. What was accepted before has no offsets."""
    op.add_column("tallies", sa.Column("first_offset", sa.BigInteger(), nullable=True))
    op.add_column("tallies", sa.Column("last_offset", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        batch_op.drop_column("last_offset")
        batch_op.drop_column("first_offset")
