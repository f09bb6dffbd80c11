# SPDX-License-Identifier: Apache-2.0
"""What all pages for people share: words for numbers and names, tables, looks, and plots in the page's colours."""
