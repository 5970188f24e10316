from tasks.devstack.company.call_counter import CallCounter


def test_open_calls_are_counted_in_total_and_for_each_path():
    counter = CallCounter()
    for path in ("/employees/1", "/employees/2", "/employees/2"):
        counter.begin(path)
    statistics = counter.make_statistics()
    assert (statistics["in_flight"], statistics["max_in_flight"], statistics["max_in_flight_per_key"]) == (3, 3, 2)
    for path in ("/employees/1", "/employees/2", "/employees/2"):
        counter.end(path, 200)
    counter.begin("/employees/1")
    counter.end("/employees/1", 409)
    assert counter.make_statistics() == {
        "calls": 4,
        "in_flight": 0,
        "max_in_flight": 3,
        "max_in_flight_per_key": 2,
        "statuses": {"200": 3, "409": 1},
    }
