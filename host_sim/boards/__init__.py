# SPDX-License-Identifier: MIT
"""Virtual boards: server, client, and the kinds of board."""
