"""The heartbeat of a process."""
