import pytest

from tasks.devstack.environment import hermetic, inherited


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDRIVE_LEDGER__URL", "AWS_PROFILE", "SENTRY_DSN", "CELERY_BROKER_URL", "FLOWER_PORT"):
        monkeypatch.setenv(name, "somebody's own")
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("NO_PROXY", "company.com")
    monkeypatch.delenv("no_proxy", raising=False)


def test_a_hermetic_environment_leads_nowhere_else():
    env = hermetic(REDRIVE_CONFIG="ours.toml")
    assert "somebody's own" not in env.values()
    assert env["HOME"] == "/home/alice"
    assert env["REDRIVE_CONFIG"] == "ours.toml"


def test_an_inherited_environment_is_the_persons_own():
    env = inherited(REDRIVE_CONFIG="ours.toml")
    assert env["REDRIVE_LEDGER__URL"] == env["AWS_PROFILE"] == "somebody's own"
    assert env["REDRIVE_CONFIG"] == "ours.toml"


def test_no_proxy_is_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch):
    for env in (hermetic(), inherited()):
        assert env["NO_PROXY"] == "company.com,127.0.0.1,localhost"
        assert env["no_proxy"] == "127.0.0.1,localhost"
    monkeypatch.setenv("NO_PROXY", "*")
    assert inherited()["NO_PROXY"] == "*"
