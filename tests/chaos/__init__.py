"""Chaos: the whole service on three brokers, killed, frozen and cut off at random, and a judge of what came of it.

    schedule.py   pure: a seed → every strike of a run, decided before it begins
    links.py      TCP proxies in front of every listener: cut, slow, stalled, deaf
    children.py   processes that are killed, frozen and started again
    graph.py      a process: the emulator with its faults on, fed with calls
    judging.py    a process: reads all topics and the emulator's own record, says what is lost, twice, wrong
    waits.py      pure: which calls wait, and for how long
    world.py      everything of a run, opened in order and ended whatever happens
    strikes.py    carries a schedule out
    report.py     what a person and a document are told
    broken.py     builds broken on purpose, to prove that the judge sees

`make chaos`, or `python -m tests.chaos`; docs/reliability.md has the reports.
"""
