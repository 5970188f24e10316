"""The application's sync API over HTTP. A call ends in time and as a `SyncResult`, whatever the server does.

`requests` times each read by itself, so that a byte a second passes every time-out, and a name server that hangs is not timed at
all. So a call runs on a thread of its own; at the deadline its socket is shut down, and a thread that still hangs (in a name
lookup) finds that it may neither connect nor send any more. `requests` is kept from doing more than it is told:

- it follows no redirect and does not read a redirect's body either, which with `allow_redirects=False` it would read whole
  (psf/requests#5529);
- it reads nothing from the environment: no ~/.netrc (which would replace the bearer token), no proxy, no CA bundle; a CA bundle
  is a setting and given to the constructor, proxies are not supported;
- it keeps no cookies, repeats no request and decodes no content: a compressed bomb stays as small as it came.
"""

from tasks.adapters.http.api import RequestsSyncApi

__all__ = ["RequestsSyncApi"]
