#!/bin/sh
# Starts the fake worker: a test of the test binary itself, which cargo builds anyway. The harness writes
# on stdout, where the engine expects frames, so the frames get a descriptor of their own.
exec 3>&1 >/dev/null
exec "$FAKE_WORKER_PROGRAM" --exact support::fake_worker::serve --ignored --nocapture
