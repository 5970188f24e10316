"""The hosts that the doctor connects to."""

from tasks.doctor.network import hosts
from tasks.settings import assemble


def test_each_host_is_asked_once():
    table = {name: {"url": f"{url}/{name}"} for name, url in {"a": "https://h", "b": "https://h:443", "c": "http://h"}.items()}
    assert hosts(assemble({"routes": table}, {})) == {("https", "h", 443): ["a", "b"], ("http", "h", 80): ["c"]}
