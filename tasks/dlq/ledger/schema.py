"""The ledger's tables. Times are whole milliseconds since the epoch by the database's clock; durations never stand here.

A change here needs a migration in `tasks/dlq/migrations/versions/`; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite numbers rows by itself only in an INTEGER column; PostgreSQL needs 64 bits.
Id = BigInteger().with_variant(Integer, "sqlite")
Millis = BigInteger

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("identity", String(200), nullable=False, doc="what the transport knows of the record; unique in its source"),
    Column("stream", String(300), nullable=False, server_default="", doc="topic/partition; empty where a source has none"),
    Column("origin", Text, nullable=False, doc="JSON object: topic, partition, offset, exception, first sent, …"),
    Column("body", LargeBinary, nullable=False, doc="the original bytes, unless a person repaired the letter by others"),
    Column("received_at", Millis, nullable=False),
    Column("reject_reason", String(40), doc="set when the body could not become needs; repairable"),
    Column("reject_detail", Text),
    Column("kept_until", Millis, doc="prune found that the letter is not over, and looks again then"),
    Column("original_body", LargeBinary, doc="the bytes as they arrived, where a person put others into `body`"),
    UniqueConstraint("source", "identity"),
    sqlite_autoincrement=True,  # ids are never given out twice: a late settle must not meet another's row
)
Index(
    "ix_dead_letters_rejected",
    dead_letters.c.reject_reason,
    dead_letters.c.id,
    sqlite_where=dead_letters.c.reject_reason.is_not(None),
    postgresql_where=dead_letters.c.reject_reason.is_not(None),
)
Index("ix_dead_letters_kept", dead_letters.c.kept_until, dead_letters.c.received_at, dead_letters.c.id)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("route", String(64), nullable=False),
    Column("key", Text, nullable=False, doc="canonical JSON of the parameters; with the route the identity of the call"),
    Column("state", String(12), nullable=False, doc="see tasks.dlq.job.State"),
    Column("due_at", Millis, nullable=False),
    # The three counters: coverage is arithmetic on them.
    Column("last_seq", BigInteger, nullable=False, doc="needs attached so far"),
    Column("claimed_seq", BigInteger, nullable=False, server_default="0", doc="last_seq as the running call's claim saw it"),
    Column("covered_seq", BigInteger, nullable=False, server_default="0", doc="a need is recovered when seq <= covered_seq"),
    # Budgets.
    Column("attempts", Integer, nullable=False, server_default="0", doc="calls of this budget that reached the API"),
    Column(
        "misses",
        Integer,
        nullable=False,
        server_default="0",
        doc="tries in a row that never reached the API, or that opened the breaker",
    ),
    Column("crashes", Integer, nullable=False, server_default="0", doc="leases in a row that nobody settled"),
    Column("calls", Integer, nullable=False, server_default="0", doc="attempts made in the job's whole life"),
    # The lease.
    Column("token", String(32), doc="random; set while executing"),
    Column("fence", BigInteger, nullable=False, server_default="0", doc="grows with each claim of the key, for ever"),
    Column("lease_until", Millis, doc="set while executing"),
    Column("rest_until", Millis, doc="key and slot rest until then: the API may still be working"),
    Column("wakeup_until", Millis, doc="a wake-up for this job is out, until it is received or expires then"),
    # The last outcome, for people.
    Column("outcome", String(12), doc="see tasks.dlq.calls.outcome.Outcome"),
    Column("status", Integer),
    Column("detail", Text),
    Column("group_key", String(32), doc="failure group: digest of route, outcome, status and normalised message"),
    Column("created_at", Millis, nullable=False),
    Column("changed_at", Millis, nullable=False, doc="the last change of state"),
    UniqueConstraint("route", "key"),
    CheckConstraint("covered_seq <= last_seq AND claimed_seq <= last_seq", name="counters"),
    CheckConstraint("(state = 'executing') = (token IS NOT NULL)", name="leased"),
    sqlite_autoincrement=True,
)
#: Conditions of partial indexes, in literals: databases use such an index only where they see its very condition.
waiting = jobs.c.state.in_([literal_column("'scheduled'"), literal_column("'retryable'")])
executing = jobs.c.state == literal_column("'executing'")
#: Needs came while the call was open: its success does not cover them.
has_new_needs = jobs.c.last_seq > jobs.c.claimed_seq
FRESH_BUDGET: dict[str, Any] = {"attempts": 0, "misses": 0, "crashes": 0}
#: A job keeps so many attempts for as long as it lives. The number stands in the index `ix_jobs_busy`, too.
ATTEMPTS_KEPT = 100
busy = jobs.c.calls > literal_column(str(ATTEMPTS_KEPT))
Index("ix_jobs_due", jobs.c.route, jobs.c.due_at, jobs.c.id, sqlite_where=waiting, postgresql_where=waiting)
Index("ix_jobs_leases", jobs.c.route, jobs.c.lease_until, sqlite_where=executing, postgresql_where=executing)
Index(
    "ix_jobs_resting",
    jobs.c.route,
    jobs.c.rest_until,
    sqlite_where=jobs.c.rest_until.is_not(None),
    postgresql_where=jobs.c.rest_until.is_not(None),
)
Index(
    "ix_jobs_wakeup",
    jobs.c.route,
    jobs.c.wakeup_until,
    sqlite_where=jobs.c.wakeup_until.is_not(None),
    postgresql_where=jobs.c.wakeup_until.is_not(None),
)
Index("ix_jobs_busy", jobs.c.id, sqlite_where=busy, postgresql_where=busy)
Index("ix_jobs_state", jobs.c.state, jobs.c.changed_at, jobs.c.id)
Index("ix_jobs_group", jobs.c.group_key, jobs.c.state, jobs.c.changed_at)

needs = Table(
    "needs",
    metadata,
    Column("dead_letter_id", Id, ForeignKey("dead_letters.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True),
    Column("seq", BigInteger, nullable=False, doc="the job's last_seq after this need was attached"),
    UniqueConstraint("job_id", "seq"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False, doc="counts from 1 over the job's life"),
    Column("token", String(32), nullable=False, unique=True),
    Column("fence", BigInteger, nullable=False),
    Column("covers_seq", BigInteger, nullable=False, doc="the job's claimed_seq in this attempt: what its success covers"),
    Column("worker", String(200), nullable=False),
    Column("began_at", Millis, nullable=False, doc="the claim's commit; the call begins after it"),
    Column("ended_at", Millis),
    Column("outcome", String(12), doc="null while the call may be open"),
    Column("status", Integer),
    Column("detail", Text),
    Index("ix_attempts_job", "job_id", "number"),
    Index("ix_attempts_began", "began_at"),
)

routes = Table(
    "routes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("fence", BigInteger, nullable=False, server_default="0", doc="the last fence given out; outlives pruned jobs"),
    Column("not_before", Millis, nullable=False, server_default="0", doc="no call of the route before (Retry-After)"),
    Column("paused_at", Millis, doc="set while paused"),
    Column("paused_by", String(100)),
    Column("pause_reason", Text),
    # The breaker.
    Column("breaker_open", Boolean, nullable=False, server_default=false()),
    Column("faults", Integer, nullable=False, server_default="0", doc="API faults in a row, over all keys"),
    Column("fault_key", Text, doc="the key that failed first in that row"),
    Column("probe_at", Millis, nullable=False, server_default="0", doc="no probe before, while open"),
    Column("probed", Id, nullable=False, server_default="0", doc="the job probed last: probes rotate over the due jobs"),
    # Wake-ups.
    Column("swept_at", Millis, doc="when a sweep sent last; null once a wake-up came"),
    Column(
        "sweep_timeout",
        Integer,
        nullable=False,
        server_default="9000",
        doc="milliseconds until a sweep sends another",
    ),
)

alerts = Table(
    "alerts",
    metadata,
    Column("fingerprint", String(80), primary_key=True),
    Column("kind", String(20), nullable=False, doc="name of a tasks.dlq.alerts.kinds.AlertKind"),
    Column("severity", String(8), nullable=False, doc="see tasks.dlq.alerts.alert.Severity"),
    Column("subject", String(64), nullable=False, doc="the route or the source concerned"),
    Column("state", String(8), nullable=False, doc="see tasks.dlq.alerts.alert.AlertState"),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("over_text", Text, nullable=False, doc="what has ended, when the alert is over"),
    Column("facts", Text, nullable=False, doc="JSON object of small values, without secrets"),
    Column("count", Integer, nullable=False),
    Column("began_at", Millis, nullable=False),
    Column("changed_at", Millis, nullable=False, doc="the last change of state"),
    Column("revision", Integer, nullable=False, server_default="1", doc="grows with each change of state"),
    # The delivery: see tasks.dlq.alerts.delivery.
    Column("delivered", Boolean, nullable=False, server_default=false(), doc="every sink took the present revision"),
    Column("delivered_by", Text, nullable=False, server_default="", doc="names of the sinks that took it, separated by blanks"),
    Column("deliver_after", Millis, nullable=False, server_default="0", doc="not due before: it is leased, or a sink failed"),
    Index("ix_alerts_state", "state", "changed_at"),
    Index("ix_alerts_due", "delivered", "deliver_after"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("stream", String(300), primary_key=True, server_default=""),
    Column("accepted", BigInteger, nullable=False, server_default="0", doc="counted at intake, in its transaction"),
    # Rows that prune has removed, by what they were.
    Column("recovered", BigInteger, nullable=False, server_default="0"),
    Column("discarded", BigInteger, nullable=False, server_default="0"),
    Column("first_at", Millis, nullable=False),
    Column("last_at", Millis, nullable=False),
    Column("first_offset", BigInteger, doc="the lowest accepted in the stream; null where places are not numbered"),
    Column("last_offset", BigInteger, doc="the highest accepted"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Millis, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
)

processes = Table(
    "processes",
    metadata,
    Column("name", String(300), primary_key=True, doc="role@host:pid"),
    Column("role", String(16), nullable=False, doc="worker, beat, intake"),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("main_pid", Integer, nullable=False, doc="of the process that a supervisor started: a worker's is its pool's parent"),
    Column("version", String(40), nullable=False),
    Column("serves", Text, nullable=False, doc="queues or sources, separated by blanks"),
    Column("began_at", Millis, nullable=False),
    Column("seen_at", Millis, nullable=False),
)
