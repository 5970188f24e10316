"""The application's sync API over HTTP. Every call ends in time and as a `SyncResult`.

- `deadline.py`: the thread of a call and the guard that cuts it at its deadline.
- `connection.py`: connections of `urllib3` that ask the guard before they connect and before they send.
- `request.py`: the request of a call, and its secrets.
- `api.py`: the call itself and its result.

docs/adr/0011-http-on-requests.md gives the reasons.
"""

from tasks.adapters.http.api import RequestsSyncApi

__all__ = ["RequestsSyncApi"]
