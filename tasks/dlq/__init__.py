"""The domain: dead letters, needs, jobs and attempts. Knows neither Celery nor a transport."""
