"""The ledger's tables.

A change here needs a migration in `migrations/versions`; a test compares the two.
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

from tasks.dlq.ledger.column_types import Digest, Fence, HttpStatus, Id, JsonObject, Key, Millis, Name, Offset, Word

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source", Name(64), nullable=False),
    Column("identity", String(200), nullable=False, doc="of the record in its source, made from what the transport knows"),
    Column("stream", String(300), nullable=False, server_default="", doc="topic/partition; empty if the source has none"),
    Column("origin", JsonObject, nullable=False, doc="JSON object: topic, partition, offset, exception, first sent, …"),
    Column("body", LargeBinary, nullable=False, doc="the original bytes, or those of a repair"),
    Column("received_at", Millis, nullable=False),
    Column("reject_reason", Word(40), doc="why the body has no needs; repairable"),
    Column("reject_detail", Text),
    Column("kept_until", Millis, doc="prune looks at the letter again then, because it was not over"),
    Column("original_body", LargeBinary, doc="the bytes as they arrived, if a repair replaced `body`"),
    UniqueConstraint("source", "identity"),
    sqlite_autoincrement=True,  # ids are never given out twice: a late settlement must not find another row
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
    Column("route", Name(64), nullable=False),
    Column("key", Key, nullable=False, doc="with the route the identity of the call"),
    Column("state", String(12), nullable=False, doc="see tasks.dlq.job.State"),
    Column("due_at", Millis, nullable=False),
    # The three counters of coverage: docs/adr/0002-coverage-by-counters.md.
    Column("last_seq", BigInteger, nullable=False, doc="needs attached so far"),
    Column("claimed_seq", BigInteger, nullable=False, server_default="0", doc="last_seq as the running call's claim saw it"),
    Column("covered_seq", BigInteger, nullable=False, server_default="0", doc="a need is recovered when seq <= covered_seq"),
    # Budgets.
    Column("attempts", Integer, nullable=False, server_default="0", doc="calls of this budget that reached the API"),
    Column("misses", Integer, nullable=False, server_default="0", doc="tries in a row that did not count as attempts"),
    Column("crashes", Integer, nullable=False, server_default="0", doc="leases in a row that ended without a settlement"),
    Column("calls", Integer, nullable=False, server_default="0", doc="attempts in the whole life of the job"),
    # The lease.
    Column("token", Digest(32), doc="random; set while executing"),
    Column("fence", Fence, nullable=False, server_default="0", doc="increases with each claim of the key"),
    Column("lease_until", Millis, doc="set while executing"),
    Column("rest_until", Millis, doc="key and slot rest until then: the API may still be working"),
    Column("wakeup_until", Millis, doc="a wake-up for this job is out, until it is received or expires then"),
    # The last outcome, for people.
    Column("outcome", String(12), doc="see tasks.dlq.calls.outcome.Outcome"),
    Column("status", HttpStatus),
    Column("detail", Text),
    Column("group_key", Digest(32), doc="failure group: digest of route, outcome, status and normalised message"),
    Column("created_at", Millis, nullable=False),
    Column("changed_at", Millis, nullable=False, doc="the last change of state"),
    UniqueConstraint("route", "key"),
    CheckConstraint("covered_seq <= last_seq AND claimed_seq <= last_seq", name="counters"),
    CheckConstraint("(state = 'executing') = (token IS NOT NULL)", name="leased"),
    sqlite_autoincrement=True,
)
#: Conditions of partial indexes, as literals: a database uses such an index only for a query with exactly its condition.
waiting = jobs.c.state.in_([literal_column("'scheduled'"), literal_column("'retryable'")])
executing = jobs.c.state == literal_column("'executing'")
#: Needs came while the call was open: its success does not cover them.
has_new_needs = jobs.c.last_seq > jobs.c.claimed_seq
FRESH_BUDGET: dict[str, Any] = {"attempts": 0, "misses": 0, "crashes": 0}
#: Prune keeps this many attempts of a job. The number is also in the index `ix_jobs_busy`.
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
    Column("seq", BigInteger, nullable=False, info={"least": 1}, doc="the job's last_seq after this need was attached"),
    UniqueConstraint("job_id", "seq"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False, info={"least": 1}, doc="counts from 1 over the job's life"),
    Column("token", Digest(32), nullable=False, unique=True),
    Column("fence", Fence, nullable=False),
    Column("covers_seq", BigInteger, nullable=False, doc="the job's claimed_seq in this attempt: what its success covers"),
    Column("worker", String(200), nullable=False),
    Column("began_at", Millis, nullable=False, doc="the time of the claim; the call begins after it"),
    Column("ended_at", Millis),
    Column("outcome", String(12), doc="null while the call may be open"),
    Column("status", HttpStatus),
    Column("detail", Text),
    Index("ix_attempts_job", "job_id", "number"),
    Index("ix_attempts_began", "began_at"),
)

routes = Table(
    "routes",
    metadata,
    Column("name", Name(64), primary_key=True),
    Column("fence", Fence, nullable=False, server_default="0", doc="the last fence given out; survives pruned jobs"),
    Column("not_before", Millis, nullable=False, server_default="0", doc="no call of the route before (Retry-After)"),
    Column("paused_at", Millis, doc="set while paused"),
    Column("paused_by", String(100)),
    Column("pause_reason", Text),
    # The breaker.
    Column("breaker_open", Boolean, nullable=False, server_default=false()),
    Column("faults", Integer, nullable=False, server_default="0", doc="API faults in a row, over all keys"),
    Column("fault_key", Key, doc="the key of the first of these faults"),
    Column("probe_at", Millis, nullable=False, server_default="0", doc="no probe before, while open"),
    Column("probed", Id, nullable=False, server_default="0", info={"least": 0}, doc="the job that was probed last"),
    # Wake-ups.
    Column("swept_at", Millis, doc="when a sweep sent last; null once a wake-up came"),
    Column("sweep_timeout", Integer, nullable=False, server_default="9000", doc="milliseconds until a sweep sends another"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("fingerprint", String(80), primary_key=True),
    Column("kind", String(20), nullable=False, doc="name of a tasks.dlq.alerts.kinds.AlertKind"),
    Column("severity", String(8), nullable=False, doc="see tasks.dlq.alerts.alert.Severity"),
    Column("subject", Name(64), nullable=False, doc="the route or the source concerned"),
    Column("state", String(8), nullable=False, doc="see tasks.dlq.alerts.alert.AlertState"),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("over_text", Text, nullable=False, doc="what has ended, when the alert is over"),
    Column("facts", JsonObject, nullable=False, doc="JSON object of small values, without secrets"),
    Column("count", Integer, nullable=False),
    Column("began_at", Millis, nullable=False),
    Column("changed_at", Millis, nullable=False, doc="the last change of state"),
    Column("revision", Integer, nullable=False, server_default="1", info={"least": 1}, doc="grows with each change of state"),
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
    Column("source", Name(64), primary_key=True),
    Column("stream", String(300), primary_key=True, server_default=""),
    Column("accepted", BigInteger, nullable=False, server_default="0", doc="counted at intake, in its transaction"),
    # Dead letters that prune removed, by what became of them.
    Column("recovered", BigInteger, nullable=False, server_default="0"),
    Column("discarded", BigInteger, nullable=False, server_default="0"),
    Column("first_at", Millis, nullable=False),
    Column("last_at", Millis, nullable=False),
    Column("first_offset", Offset, doc="the lowest accepted in the stream; null if places are not numbered"),
    Column("last_offset", Offset, doc="the highest accepted"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Millis, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", Word(40), nullable=False),
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
    Column("main_pid", Integer, nullable=False, doc="the process that a supervisor started; for a process of a pool, its parent"),
    Column("version", String(40), nullable=False),
    Column("serves", Text, nullable=False, doc="queues or sources, separated by blanks"),
    Column("began_at", Millis, nullable=False),
    Column("seen_at", Millis, nullable=False),
)
