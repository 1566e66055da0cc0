// SPDX-License-Identifier: MIT
// Where no build has one: ESP-IDF's options as they are without it.
