# SPDX-License-Identifier: MIT
"""timm's vision transformers with ternary layers: the student, in float; and the teacher."""
