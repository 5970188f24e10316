"""The sweeps that beat sent while no worker was there."""

from tasks.sweeps import piled_up


def test_of_the_sweeps_that_piled_up_a_few_are_made_and_those_of_each_interval_are():
    sent = [100.0 + 0.01 * number for number in range(60)]  # 60 within 0.6 s, as a worker comes to them
    made = [now for now in sent if not piled_up("one", now)]
    assert len(made) == 3
    assert not piled_up("another", made[-1])
    assert not any(piled_up("one", 200.0 + second) for second in range(5))
