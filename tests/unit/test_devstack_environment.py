import pytest

from tasks.devstack.environment import inherit_environment, isolate_environment


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDRIVE_LEDGER__URL", "AWS_PROFILE", "SENTRY_DSN", "CELERY_BROKER_URL", "FLOWER_PORT"):
        monkeypatch.setenv(name, "the user's own")
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("NO_PROXY", "company.com")
    monkeypatch.delenv("no_proxy", raising=False)


def test_an_isolated_environment_leads_nowhere_else():
    env = isolate_environment(REDRIVE_CONFIG="ours.toml")
    assert "the user's own" not in env.values()
    assert env["HOME"] == "/home/alice"
    assert env["REDRIVE_CONFIG"] == "ours.toml"


def test_an_inherited_environment_has_the_users_own_variables():
    env = inherit_environment(REDRIVE_CONFIG="ours.toml")
    assert env["REDRIVE_LEDGER__URL"] == env["AWS_PROFILE"] == "the user's own"
    assert env["REDRIVE_CONFIG"] == "ours.toml"


def test_loopback_connections_use_no_proxy(monkeypatch: pytest.MonkeyPatch):
    for env in (isolate_environment(), inherit_environment()):
        assert env["NO_PROXY"] == "company.com,127.0.0.1,localhost"
        assert env["no_proxy"] == "127.0.0.1,localhost"
    monkeypatch.setenv("NO_PROXY", "*")
    assert inherit_environment()["NO_PROXY"] == "*"
