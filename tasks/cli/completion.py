"""What the shell completes beyond commands and options."""


def route_names(incomplete: str) -> list[str]:
    """Return the routes of redrive.toml that begin like this; none when it cannot be read."""
    from tasks.dlq.errors import ConfigError
    from tasks.settings import settings

    try:
        return [name for name in sorted(settings().routes) if name.startswith(incomplete)]
    except ConfigError:
        return []
