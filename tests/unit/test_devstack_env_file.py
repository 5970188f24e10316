import tomllib
from pathlib import Path

from tasks.devstack.env_file import write_env_file
from tasks.settings import assemble

CONFIG = """
[ledger]
url = "sqlite:///here/ledger.db"
[broker]
url = "sqs://key:sec-ret@127.0.0.1:9324"
"""


def test_the_file_means_the_same_in_every_directory(tmp_path: Path):
    settings = assemble(tomllib.loads(CONFIG), {}, file="/config/redrive.toml")
    file = tmp_path / "up.env"
    write_env_file(file, settings, {"REDRIVE_STATE_DIR": "/s", "HOME": "/h", "REDRIVE_X": "a b"})
    *lines, path = file.read_text().splitlines()
    assert lines == [
        "export AWS_ACCESS_KEY_ID=key",
        "export AWS_DEFAULT_REGION=us-east-1",
        "export AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9324",
        "export AWS_SECRET_ACCESS_KEY=sec-ret",
        f"export REDRIVE_LEDGER__URL=sqlite:///{Path.cwd()}/here/ledger.db",
        "export REDRIVE_STATE_DIR=/s",
        "export REDRIVE_X='a b'",
    ]
    assert path.startswith("export PATH=/")
    assert path.endswith(':"$PATH"')


def test_only_the_user_may_read_the_file(tmp_path: Path):
    file = tmp_path / "up.env"
    write_env_file(file, assemble(tomllib.loads(CONFIG), {}), {})
    assert file.stat().st_mode & 0o777 == 0o600
