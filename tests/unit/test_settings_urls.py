"""URLs are checked, and shown without their credentials."""

import pytest
from settings_texts import ROUTE, SOURCE, lines

from tasks.settings.urls import masked


@pytest.mark.parametrize(
    "variable",
    [
        "REDRIVE_LEDGER__URL",
        "REDRIVE_BROKER__URL",
        "REDRIVE_MONITOR__URL",
        "REDRIVE_ROUTES__R__URL",
        "REDRIVE_SOURCES__S__ENDPOINT",
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "x://user:sesame@host",
        "x://user:ses/ame@host/",
        "x://user:se@same@host",
        "x://sesame@host:99999999",
        "x://user:sesame@[host",
        "http://user:sesame@host/{id}",
        "http://user:12/sesame@host/{id}",
        "http://host/{id}{x}?token=sesame",
        "user:sesame@host",
        "sesame",
        "x://user:sesame#@host",
        "x://user:sesame?@host",
        "redis://user:ses/ame@host",
        "sqs://user:ses/ame@host",
        "postgresql://user:ses/ame@host:x",
        "http://host/{other}?token=sesame%zz",
    ],
)
def test_a_refused_url_shows_no_credentials(variable: str, url: str):
    found = "\n".join(lines(ROUTE + SOURCE, **{variable: url}))
    assert "same" not in found
    assert "ses" not in found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqs://", "sqs://"),
        ("sqs://k:s@h:1", "sqs://***@h:1"),
        ("postgresql://u@h/d", "postgresql://***@h/d"),
        ("https://h/users/@{id}?a=b", "https://h/users/@{id}?a=b"),
        ("https://h:8080/users/{id}", "https://h:8080/users/{id}"),
        ("https://h:8080/users/@{id}", "https://***@{id}"),
        ("https://h/x?a=1&api_key=s&b=2#f", "https://h/x?a=1&api_key=***&b=2#f"),
        ("https://h/x?code=s/3+x==&a=1", "https://h/x?code=***&a=1"),
        ("https://h/x?a=1&CODE=s&ApiKey=s&SAS=s&Sig=s#f", "https://h/x?a=1&CODE=***&ApiKey=***&SAS=***&Sig=***#f"),
        (
            "https://h/x?access_token=s&passwd=s&x-auth=s&%63ode=s",
            "https://h/x?access_token=***&passwd=***&x-auth=***&%63ode=***",
        ),
        ("https://h/x?zipcode=1&design=2&compass=3&p=4", "https://h/x?zipcode=1&design=2&compass=3&p=4"),
        ("https://h/x?key={id}&token={id}s", "https://h/x?key={id}&token=***"),
        ("u:s@h", "***"),
    ],
)
def test_masked(url: str, shown: str):
    assert masked(url) == shown
