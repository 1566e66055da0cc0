# SPDX-License-Identifier: MIT
include("../s3_manifest.py")
