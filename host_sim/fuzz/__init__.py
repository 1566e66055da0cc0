# SPDX-License-Identifier: MIT
"""Fuzzers: hostile model files, calls, pictures, ROMFS images and configurations, under AddressSanitizer and UBSan.

    python -m host_sim.fuzz [--seed N] [--minutes M] [--kind KIND] ...      (`just fuzz`)

A kind of case is a class with two methods: `make(chance)` returns the bytes of a case; `check(path)` raises Fault, or
any other exception, if the code under test answers it wrongly. Case I of seed S depends only on S, the kind's name and
I, so the number reproduces it. A worker (worker.py) runs cases in processes that may crash; __main__.py counts them.
"""
