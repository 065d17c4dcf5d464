"""The pipelines of mmalign: what is run with what, one thin file a verb, and the recipes."""
