"""What the doctor makes of Kafka topics."""

from tasks.adapters.kafka import Lag
from tasks.doctor.findings import State
from tasks.doctor.kafka import judge_lags


def test_a_kafka_source():
    lag = Lag(topic="a-dlt", partition=0, committed=5, low=0, high=12)
    assert judge_lags("a", ["a-dlt"], [lag]).detail == "Kafka answers; 7 to be read in 1 partition"
    missing = judge_lags("a", ["a-dlt", "b-dlt"], [lag])
    assert missing.state is State.WARNING
    assert missing.detail.endswith("there is no topic b-dlt")
