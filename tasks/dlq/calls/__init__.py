"""One call of the sync API: its route, URL, body, outcome, and what follows it."""
