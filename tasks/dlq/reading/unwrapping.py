"""Unwrapping: removes the envelopes that transports put around a body, one declared step after the other.

| step | what it removes |
|---|---|
| `sns` | SNS without raw delivery: `{"Type": "Notification", "Message": "…"}`, or the event that a Lambda function receives |
| `lambda` | an on-failure destination of a Lambda function: `{"requestPayload": …}` |
| `eventbridge` | an event of EventBridge: `{"detail-type": …, "detail": {…}}` |
| `base64` | base64 as in RFC 4648, section 4; line breaks are skipped |

Sources: https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html,
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LINE_BREAKS = b"\r\n"


def unwrap(body: bytes, steps: Sequence[str], *, max_bytes: int) -> bytes:
    """Return the body without its envelopes. Each of `steps` is a name in `STEPS`.

    Raises:
        UnreadableBody: "not-wrapped" if a step does not find its envelope, or a reason of `read_json`.
    """
    for step in steps:
        body = STEPS[step](body, max_bytes)
    return body


def _sns(body: bytes, max_bytes: int) -> bytes:
    match read_json(body, max_bytes=max_bytes):
        case {"Type": "Notification", "Message": str() as message}:
            return message.encode("utf-8", "surrogatepass")
        case {"Records": [{"Sns": {"Message": str() as message}}]}:
            return message.encode("utf-8", "surrogatepass")
    raise _not_wrapped("an SNS notification")


def _lambda(body: bytes, max_bytes: int) -> bytes:
    match read_json(body, max_bytes=max_bytes):
        case {"requestContext": dict(), "requestPayload": payload}:
            return _text(payload)
    raise _not_wrapped("the message of a Lambda destination")


def _eventbridge(body: bytes, max_bytes: int) -> bytes:
    match read_json(body, max_bytes=max_bytes):
        case {"detail-type": str(), "detail": detail}:
            return _text(detail)
    raise _not_wrapped("an EventBridge event")


def _base64(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes * 2:
        raise UnreadableBody("too-large", f"the body has {len(body)} bytes; the limit is {max_bytes}, before base64")
    try:
        return base64.b64decode(body.translate(None, _LINE_BREAKS), validate=True)
    except binascii.Error:
        raise _not_wrapped("base64") from None


def _text(document: Any) -> bytes:
    return json.dumps(document).encode()


def _not_wrapped(what: str) -> UnreadableBody:
    return UnreadableBody("not-wrapped", f"the body is not {what}", hint="see `unwrap` of the source in redrive.toml")


#: The steps by their names.
STEPS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "sns": _sns,
    "lambda": _lambda,
    "eventbridge": _eventbridge,
    "base64": _base64,
}
