"""What Redrive writes into each column that an export has. An import takes that and nothing else.

What stands in a ledger is trusted: a state that is none, a time that no calendar has or a key that is no JSON object would end a
worker or a command in the middle of its work. A file that a person edited is found out here, by its line. A text's greatest
length, and what rows have to do with each other, the database sees to.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.dlq.alerts.alert import AlertState, Severity
from tasks.dlq.alerts.kinds import alert_kinds
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.key import make_key
from tasks.dlq.parameters import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Milliseconds since the epoch: the last of the year 9999, behind which Python's calendar ends.
LAST_MOMENT = 253_402_300_799_999
#: What every parameter's text is, whatever its type.
_PARAMETER = Text()
#: Ids and counts far beyond what any ledger reaches, and far below where a column, or a sum of many, ends.
MOST, MOST_INT = 10**15, 10**9


class Rule(NamedTuple):
    """What a column takes, in words, and what reads a value as JSON has it. That raises ValueError; null is not its affair.

    `secret` values are in no message.
    """

    allowed: str
    read: Callable[[Any], Any]
    secret: bool = False


def _whole(allowed: str, least: int, most: int) -> Rule:
    def read(value: Any) -> int:
        if type(value) is int and least <= value <= most:  # a bool is an int to isinstance()
            return value
        raise ValueError

    return Rule(allowed, read)


def _count(most: int, least: int = 0) -> Rule:
    return _whole(f"a whole number from {least} to {most}", least, most)


def _one_of(*words: str) -> Rule:
    known = {str(word): str(word) for word in words}

    def read(value: Any) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError

    return Rule(f"one of {', '.join(known)}", read)


def _like(pattern: str, allowed: str) -> Rule:
    matches = re.compile(pattern, re.ASCII).fullmatch

    def read(value: Any) -> str:
        if isinstance(value, str) and matches(value):
            return value
        raise ValueError

    return Rule(allowed, read)


def _read_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - all are refused alike
    value.encode()
    return value


def _read_bytes(value: Any) -> bytes:
    return base64.b64decode(_read_text(value), validate=True)


def _parsed(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(_read_text(value))
    except RecursionError:
        raise ValueError from None
    if isinstance(found, dict):
        return found
    raise ValueError


def _read_object(value: Any) -> str:
    _parsed(value)
    return str(value)


def _read_key(value: Any) -> str:
    parameters = _parsed(value)
    for name, each in parameters.items():
        if not (name.isascii() and name.isidentifier() and _PARAMETER.parse(each)):
            raise ValueError
    if make_key(parameters) == value:
        return str(value)
    raise ValueError


ID = _count(MOST, least=1)
COUNT, COUNT_INT = _count(MOST), _count(MOST_INT)
MOMENT = _whole("a time in milliseconds within the years 1970 to 9999", 0, LAST_MOMENT)
#: Fences grow with the clock: docs/adr/0003-lease-and-fence.md.
FENCE = _whole("a fence, which is at most a time of the year 9999 in milliseconds", 0, LAST_MOMENT)
OFFSET = _whole("a whole number from 0, of 64 bits", 0, (1 << 63) - 1)
STATUS = _whole("an HTTP status of three digits", 100, 999)
NAME = _like(r"[a-z0-9_]+", "a name of a-z 0-9 _")
WORD = _like(r"[a-z0-9_-]+", "a word of a-z 0-9 _ -")
DIGEST = _like(r"[0-9a-f]{32}", "32 hexadecimal digits")
TEXT = Rule("text that UTF-8 has", _read_text)
BYTES = Rule("base64", _read_bytes, secret=True)
BOOLEAN = Rule("true or false", _read_boolean)
OBJECT = Rule("a JSON object", _read_object)
KEY = Rule('a JSON object of texts as Redrive writes it, such as {"employeeId":"1234"}: names sorted, no blanks', _read_key)
OUTCOME = _one_of(*Outcome)

#: By table and column, as `tasks.dlq.ledger.schema` documents them; what may be null is told there.
RULES: Mapping[str, Mapping[str, Rule]] = {
    "dead_letters": {
        "id": ID,
        "source": NAME,
        "identity": TEXT,
        "stream": TEXT,
        "origin": OBJECT,
        "body": BYTES,
        "received_at": MOMENT,
        "reject_reason": WORD,
        "reject_detail": TEXT,
        "kept_until": MOMENT,
        "original_body": BYTES,
    },
    "jobs": {
        "id": ID,
        "route": NAME,
        "key": KEY,
        "state": _one_of(*State),
        "due_at": MOMENT,
        "last_seq": COUNT,
        "claimed_seq": COUNT,
        "covered_seq": COUNT,
        "attempts": COUNT_INT,
        "misses": COUNT_INT,
        "crashes": COUNT_INT,
        "calls": COUNT_INT,
        "token": DIGEST,
        "fence": FENCE,
        "lease_until": MOMENT,
        "rest_until": MOMENT,
        "outcome": OUTCOME,
        "status": STATUS,
        "detail": TEXT,
        "group_key": DIGEST,
        "created_at": MOMENT,
        "changed_at": MOMENT,
    },
    "needs": {"dead_letter_id": ID, "job_id": ID, "seq": ID},
    "attempts": {
        "id": ID,
        "job_id": ID,
        "number": _count(MOST_INT, least=1),
        "token": DIGEST,
        "fence": FENCE,
        "covers_seq": COUNT,
        "worker": TEXT,
        "began_at": MOMENT,
        "ended_at": MOMENT,
        "outcome": OUTCOME,
        "status": STATUS,
        "detail": TEXT,
    },
    "routes": {
        "name": NAME,
        "fence": FENCE,
        "not_before": MOMENT,
        "paused_at": MOMENT,
        "paused_by": TEXT,
        "pause_reason": TEXT,
        "breaker_open": BOOLEAN,
        "faults": COUNT_INT,
        "fault_key": KEY,
        "probe_at": MOMENT,
        "probed": COUNT,
    },
    "alerts": {
        "fingerprint": TEXT,
        "kind": _one_of(*(kind.name for kind in alert_kinds())),
        "severity": _one_of(*Severity),
        "subject": NAME,
        "state": _one_of(*AlertState),
        "title": TEXT,
        "text": TEXT,
        "over_text": TEXT,
        "facts": OBJECT,
        "count": COUNT_INT,
        "began_at": MOMENT,
        "changed_at": MOMENT,
        "revision": _count(MOST_INT, least=1),
        "delivered": BOOLEAN,
        "delivered_by": TEXT,
        "deliver_after": MOMENT,
    },
    "tallies": {
        "source": NAME,
        "stream": TEXT,
        "accepted": COUNT,
        "recovered": COUNT,
        "discarded": COUNT,
        "first_at": MOMENT,
        "last_at": MOMENT,
        "first_offset": OFFSET,
        "last_offset": OFFSET,
    },
    "audit_log": {"id": ID, "at": MOMENT, "actor": TEXT, "action": WORD, "subject": TEXT, "reason": TEXT},
}
