"""What the doctor makes of the ledger's clock."""

from tasks.doctor.findings import State
from tasks.doctor.ledger import judge_clock


def test_clocks_that_differ_are_a_warning():
    differences = (0.0, -4.9, 5.1, -3600.0)
    assert [judge_clock(ahead).state for ahead in differences] == [State.OK, State.OK, State.WARNING, State.WARNING]
    assert "3600.0 s behind" in judge_clock(-3600.0).detail
