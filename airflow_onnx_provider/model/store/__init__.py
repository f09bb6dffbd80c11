# SPDX-License-Identifier: Apache-2.0
"""The store of model versions: addresses, versions, aliases, and what may be removed."""
