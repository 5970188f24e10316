"""Which names mean a secret, and how secrets are masked in text."""
