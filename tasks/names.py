"""Names that several parts of Redrive share. This module imports nothing, so that every other may import it."""

#: The queues of Redrive's Celery application.
RECOVERY_QUEUE = "redrive-recovery"
SUBMIT_QUEUE = "redrive-submit"
MAINTENANCE_QUEUE = "redrive-maintenance"
CELERY_QUEUES = (RECOVERY_QUEUE, SUBMIT_QUEUE, MAINTENANCE_QUEUE)
#: The dead-letter queue of a queue that Redrive creates has this suffix; for a FIFO queue, `.fifo` follows it.
DLQ_SUFFIX = "-dead"
FIFO_SUFFIX = ".fifo"
OWN_QUEUES = tuple(queue + suffix for queue in CELERY_QUEUES for suffix in ("", DLQ_SUFFIX))

#: The Celery tasks.
RECOVER = "redrive.recover"
SUBMIT = "redrive.submit"
KEEP = "redrive.keep"
PROMOTE = "redrive.promote"
RESCUE = "redrive.rescue"
DRAIN_SOURCES = "redrive.sources"
WATCH = "redrive.watch"
PRUNE = "redrive.prune"
#: Tasks whose messages may be lost: the next sweep does what they ask for.
WAKEUPS = frozenset({RECOVER, PROMOTE, RESCUE, DRAIN_SOURCES, WATCH, PRUNE})

#: The sources of all Celery submissions, and of what `redrive send` records.
CELERY_SOURCE = "celery"
SENT_SOURCE = "cli"
OWN_SOURCES = (CELERY_SOURCE, SENT_SOURCE)

#: What a header of a Kafka dead letter can say. `topic` is required: it shows that a dialect applies.
HEADER_ROLES = (
    "topic",
    "partition",
    "offset",
    "timestamp",
    "group",
    "exception",
    "cause",
    "message",
    "cause_message",
    "attempts",
)
