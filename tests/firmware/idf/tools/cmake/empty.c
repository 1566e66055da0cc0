// SPDX-License-Identifier: MIT
// For targets without sources of their own.
