from tasks.devstack.commands import make_redrive_commands


def test_the_warning_about_root_is_added_to_the_users_own_filters():
    worker, beat, _ = make_redrive_commands({"PYTHONWARNINGS": "error"})
    assert worker.env["PYTHONWARNINGS"] == "error,ignore:You're running the worker with superuser privileges"
    assert beat.env["PYTHONWARNINGS"] == "error"
