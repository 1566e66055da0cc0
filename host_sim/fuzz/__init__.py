# SPDX-License-Identifier: MIT
"""Fuzzers: hostile model files, calls, pictures, ROM images and configurations, under AddressSanitizer and UBSan.

    python -m host_sim.fuzz [--seed N] [--minutes M] [--kind KIND] ...      (`just fuzz`)

A kind is a class with `make(chance)`, the bytes of a case, and `check(content)`, which raises Fault, or anything
unforeseen, for a wrong answer to them. Case number I of seed S is made from S, the kind's name and I alone, so that
a number is a reproducer. A worker (worker.py) runs the cases in a process that may die; __main__.py counts them.
"""
