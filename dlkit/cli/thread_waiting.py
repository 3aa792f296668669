"""How torch's threads wait for each other; libgomp, which torch's wheels for Linux compute with, reads it when torch is loaded."""

import os

CHOSEN = "GOMP_SPINCOUNT"
SPINS = "10000"  # benchmarks/waiting_policy.py
SET_BY_USERS = ("OMP_WAIT_POLICY", CHOSEN)


def limit_spinning() -> None:
    """Let threads spin for some microseconds before they sleep, where the user has said nothing.

    libgomp's own choice is some milliseconds. Where other programs want the same cores, threads then spin on what the one needs
    that they wait for.
    """
    if not any(name in os.environ for name in SET_BY_USERS):
        os.environ[CHOSEN] = SPINS


def waiting_text() -> str:
    """Returns the setting that holds, as a variable of the environment."""
    return next((f"{name}={os.environ[name]}" for name in SET_BY_USERS if name in os.environ), "as libgomp chooses")
