"""Data: prompts in groups, comparisons and their formats."""
