from concurrent.futures import ThreadPoolExecutor

from tasks.devstack.company.barrier import serve_barriers, wait_at_barrier


def test_all_parties_go_on_together():
    with serve_barriers(2) as port, ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(wait_at_barrier, port, "first", timeout=60) for _ in range(2)]
        assert [wait.result() for wait in waits] == [True, True]


def test_after_the_timeout_a_party_goes_on_alone():
    with serve_barriers(2) as port:
        assert wait_at_barrier(port, "first", timeout=0.1) is False
        assert wait_at_barrier(port, "first", timeout=60) is False  # too late: the other has gone on
