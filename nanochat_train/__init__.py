"""The first task: a small GPT trained under a fixed budget and judged by validation bits per byte.

`train.py` is the one file that experiments change. Everything else is trusted: it makes the data, owns the clock and
the score, and never imports `train.py` outside a sandbox.
"""
