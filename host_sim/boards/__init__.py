# SPDX-License-Identifier: MIT
"""Virtual boards: servers, clients, and the kinds there are."""
