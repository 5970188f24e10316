"""Create the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "alerts",
        sa.Column("fingerprint", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("over_text", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("delivered", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("delivered_by", sa.Text(), server_default="", nullable=False),
        sa.Column("deliver_after", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_alerts")),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index("ix_alerts_state", ["state", "changed_at"], unique=False)
        batch_op.create_index("ix_alerts_due", ["delivered", "deliver_after"], unique=False)

    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=200), nullable=False),
        sa.Column("stream", sa.String(length=300), server_default="", nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("reject_reason", sa.String(length=40), nullable=True),
        sa.Column("reject_detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("source", "identity", name=op.f("uq_dead_letters_source_identity")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.create_index("ix_dead_letters_received", ["received_at", "id"], unique=False)
        batch_op.create_index(
            "ix_dead_letters_rejected",
            ["reject_reason", "id"],
            unique=False,
            sqlite_where=sa.text("reject_reason IS NOT NULL"),
            postgresql_where=sa.text("reject_reason IS NOT NULL"),
        )

    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("claimed_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("covered_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("misses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("rest_until", sa.BigInteger(), nullable=True),
        sa.Column("wakeup_until", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("group_key", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'executing') = (token IS NOT NULL)", name=op.f("ck_jobs_leased")),
        sa.CheckConstraint("covered_seq <= last_seq AND claimed_seq <= last_seq", name=op.f("ck_jobs_counters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("route", "key", name=op.f("uq_jobs_route_key")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_due",
            ["route", "due_at", "id"],
            unique=False,
            sqlite_where=sa.text("state IN ('scheduled', 'retryable')"),
            postgresql_where=sa.text("state IN ('scheduled', 'retryable')"),
        )
        batch_op.create_index("ix_jobs_group", ["group_key", "state", "changed_at"], unique=False)
        batch_op.create_index(
            "ix_jobs_leases",
            ["route", "lease_until"],
            unique=False,
            sqlite_where=sa.text("state = 'executing'"),
            postgresql_where=sa.text("state = 'executing'"),
        )
        batch_op.create_index(
            "ix_jobs_resting",
            ["route", "rest_until"],
            unique=False,
            sqlite_where=sa.text("rest_until IS NOT NULL"),
            postgresql_where=sa.text("rest_until IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_jobs_wakeup",
            ["route", "wakeup_until"],
            unique=False,
            sqlite_where=sa.text("wakeup_until IS NOT NULL"),
            postgresql_where=sa.text("wakeup_until IS NOT NULL"),
        )
        batch_op.create_index("ix_jobs_state", ["state", "changed_at", "id"], unique=False)

    op.create_table(
        "routes",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("not_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_by", sa.String(length=100), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("breaker_open", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("faults", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fault_key", sa.Text(), nullable=True),
        sa.Column("probe_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("probed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), server_default="0", nullable=False),
        sa.Column("swept_at", sa.BigInteger(), nullable=True),
        sa.Column("sweep_timeout", sa.Integer(), server_default="9000", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_routes")),
    )
    op.create_table(
        "tallies",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("stream", sa.String(length=300), server_default="", nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("recovered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("discarded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "stream", name=op.f("pk_tallies")),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("covers_seq", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("token", name=op.f("uq_attempts_token")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index("ix_attempts_began", ["began_at"], unique=False)
        batch_op.create_index("ix_attempts_job", ["job_id", "number"], unique=False)

    op.create_table(
        "needs",
        sa.Column("dead_letter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dead_letter_id"], ["dead_letters.id"], name=op.f("fk_needs_dead_letter_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_needs_job_id")),
        sa.PrimaryKeyConstraint("dead_letter_id", "job_id", name=op.f("pk_needs")),
        sa.UniqueConstraint("job_id", "seq", name=op.f("uq_needs_job_id_seq")),
    )


def downgrade() -> None:
    """Undo: the ledger is gone."""
    for table in ("needs", "attempts", "tallies", "routes", "jobs", "dead_letters", "audit_log", "alerts"):
        op.drop_table(table)
