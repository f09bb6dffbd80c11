# SPDX-License-Identifier: Apache-2.0
"""The Spark application: its plan, its job, its run manifest, and the publishing of what it staged."""
