"""`python -m tasks.cli` is `redrive`."""

from tasks.cli import main

main()
