"""`redrive up`, `redrive demo`, the sample company, and embedded SQS, Redis and Kafka. Production does not need this package."""
