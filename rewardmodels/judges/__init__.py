"""Judges in words: language models that see, asked through this process or any OpenAI-compatible server.

`files/` holds a YAML file a judge and `wordings/` our questions; `load.load_judge` puts them together. Three sources of
scores: token probabilities (`probability`, `checklist`), generated text (`text`, `principles`), and pairs (`pairwise`).
"""
