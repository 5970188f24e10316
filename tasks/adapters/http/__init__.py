"""The application's sync API over HTTP. A call ends in time and as a `SyncResult`, whatever the server does.

`requests` times each read by itself, so that a byte a second passes every time-out, and a name server that hangs is not timed at
all. So a call runs on a thread of its own; at the deadline its socket is shut down, and a thread that still hangs (in a name
lookup) finds that it may neither connect nor send any more. Of `requests` only the part that sends is used, and it does no more
than it is told:

- no redirect is followed, and no more of its body is read than of any other's (psf/requests#5529);
- nothing is read from the environment: no ~/.netrc (which would replace the bearer token), no proxy, no CA bundle; a CA bundle
  is a setting and given to the constructor, proxies are not supported;
- no cookie is read, no request is repeated and no content is decoded: a compressed bomb stays as small as it came;
- an answer must say clearly what it is and where it ends, and a connection is used again only when nothing is left on it.
"""

from tasks.adapters.http.api import RequestsSyncApi

__all__ = ["RequestsSyncApi"]
