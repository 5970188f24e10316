"""Runs first in each of Redrive's processes under torture, which find this folder on PYTHONPATH."""

import os
import select
import time

if "FAKETIME_TIMESTAMP_FILE" in os.environ and "LD_PRELOAD" not in os.environ:
    from moved_clock import move

    move(os.environ["FAKETIME_TIMESTAMP_FILE"])
elif "FAKETIME_TIMESTAMP_FILE" in os.environ:
    # libfaketime 0.9.10 takes a sleep's end by the monotonic clock for one by the clock that it moves: EINVAL, and beat dies.
    time.sleep = lambda seconds: select.select([], [], [], float(seconds)) and None

if "TORTURE_SABOTAGE" in os.environ:
    from sabotage import SABOTAGES

    SABOTAGES[os.environ["TORTURE_SABOTAGE"]]()
