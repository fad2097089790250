"""The benchmarks: what an event costs here, and what it costs the way one would write it in an afternoon.

    material.py  page bodies as Graph sends them, from the emulator, written to files before anything is measured
    naive.py     the afternoon's pipeline
    ours.py      the service's worker, with the bodies in place of Graph
    child.py     one pipeline in a process of its own: told to do a round, says what it cost
    compare.py   the pipelines in turns on one broker
    verify.py    reads the topics: every pipeline must have published the same positions, each once
    whole.py     `callstream serve`, the emulator and Kafka, each a process: cost and memory on the whole way
    report.py    the tables

`make bench`; what the figures say, and what not, is in docs/benchmark.md.
"""
