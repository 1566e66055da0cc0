// SPDX-License-Identifier: MIT
// Teaching: only there where the package has a Learner.
export class Teach {
    async loaded() {}
    offer() {}
}
