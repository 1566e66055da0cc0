// SPDX-License-Identifier: MIT
// Empty: included, but nothing of it is used.
