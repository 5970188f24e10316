"""Which names mean a secret."""

import pytest

from tasks.dlq.secrets.names import is_secret, is_secret_property


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "PASSWD",
            "pwd",
            "db_pwd",
            "passphrase",
            "token",
            "accessToken",
            "api_key",
            "ApiKey",
            "Authorization",
            "x-auth",
        ),
        *(
            "cookie",
            "Set-Cookie",
            "client_secret",
            "signature",
            "sig",
            "jwt",
            "sentry_dsn",
            "credentials",
            "creds",
            "code",
            "sas",
        ),
    ],
)
def test_names_of_secrets(name: str):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["", "route", "error_code", "zipcode", "design", "compass", "spinning", "event", "status"])
def test_names_of_other_values(name: str):
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("sasl.password", True),
        ("ssl.key.password", True),
        ("ssl.key.pem", True),
        ("ssl.key.location", False),
        ("sasl.kerberos.keytab", False),
        ("sasl.oauthbearer.client.secret", True),
        ("sasl.oauthbearer.assertion.private.key.pem", True),
        ("sasl.oauthbearer.assertion.private.key.file", False),
        ("sasl.oauthbearer.config", True),
        ("sasl.oauthbearer.scope", False),
    ],
)
def test_properties_of_librdkafka(name: str, *, secret: bool):
    assert is_secret_property(name) is secret
