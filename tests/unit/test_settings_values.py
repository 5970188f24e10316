"""The types of single values: numbers, durations, sizes, flags, text and names."""

import pytest
from settings_texts import ROUTE, line, route


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ('"500ms"', 0.5),
        ('"30s"', 30),
        ('"15m"', 900),
        ('"1h"', 3600),
        ('"7d"', 604800),
        ("90", 90),
        ("0.25", 0.25),
        ('"1.5m"', 90),
    ],
)
def test_durations(written: str, seconds: float):
    assert route(f"delay = {written}").delay == seconds


@pytest.mark.parametrize(("written", "size"), [('"1KiB"', 1024), ('"1MiB"', 1 << 20), ('"2048B"', 2048), ("4096", 4096)])
def test_sizes(written: str, size: int):
    assert route(f"max_response_bytes = {written}").max_response_bytes == size


@pytest.mark.parametrize("name", ["Employees", "a-b", "a__b", "_a", "a_", "é", '""', "a" * 65])
def test_wrong_names_of_routes(name: str):
    if name == "é":
        name = '"é"'
    found = line(f'[routes.{name}]\nurl = "http://host/"')
    assert found.startswith("redrive.toml: routes.")
    assert "the name must be" in found
    assert "[key]" not in found


@pytest.mark.parametrize("key", ["notify_env", "sentry_dsn_env"])
def test_a_secret_instead_of_its_variables_name_is_not_shown(key: str):
    assert "sesame" not in line(f'[alerts]\n{key} = "slack://sesame"')
    assert "sesame" not in line(ROUTE + 'bearer_env = "eyJ.sesame"')
