"""A month in minutes: the whole service, a real Kafka and the emulator on one fast clock, and the verdict.

    script.py    what happens: lost notices, silence, an outage, secrets and keys that are replaced
    pace.py      a clock that is fast and waits for the machine where that is slow
    stage.py     the emulator, the service as an operator runs it, and the calls
    watching.py  what comes out, while it comes
    outcome.py   what came of it, and whether that is right
    run.py       one run from its first midnight to the verdict
    report.py    tables for a terminal
    plot.py      the picture (needs the extra `bench`)

`python -m bench.simulation` is the run of docs/completeness.md; a test makes a short one. Every limit of Graph's is
counted by the emulator on the same clock; Kafka and its timeouts stay real.
"""
