# SPDX-License-Identifier: Apache-2.0
"""What a run's report is made of: what is known of the run, the verdict and advice in words, samples, plots, layout."""
