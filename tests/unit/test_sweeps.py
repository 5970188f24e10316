"""Sweeps that beat sent while no worker ran."""

from tasks.sweeps import has_just_run


def test_of_many_messages_at_once_only_a_few_are_run():
    sent = [100.0 + 0.01 * number for number in range(60)]  # within 0.6 s
    run = [now for now in sent if not has_just_run("one", now)]
    assert len(run) == 3
    assert not has_just_run("another", run[-1])


def test_every_message_at_its_normal_interval_is_run():
    assert not any(has_just_run("regular", 200.0 + second) for second in range(5))
