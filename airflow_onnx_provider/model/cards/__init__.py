# SPDX-License-Identifier: Apache-2.0
"""What a model card is made of: the measured variants, the verdict in words, the lineage, the plots, the templates."""
