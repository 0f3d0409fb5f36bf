"""A worker that is killed at any time."""

import random
import time

import troupe

worker = troupe.Worker(slots=8)


@worker.task("python.echo")
def echo(attempt):
    attempt.text("begun")
    time.sleep(random.uniform(0, 0.1))
    return attempt.step("once", lambda: attempt.payload)


while True:
    try:
        worker.run()
        break
    except troupe.Unreachable:  # the server has just been killed, too
        time.sleep(0.05)
