"""Stead's speed beside what people would use instead: `make bench`, or `python -m benchmarks --help`.

The driver, the load and every client live on one core, the servers on another; each server in turn, warmed up, with the repeats
of all contenders interleaved, so that a slow minute of the machine hits all of them. A run whose counters do not add up does not
count. Only ratios within one run on one machine mean anything. `docs/performance.md` has the method and the figures.
"""
