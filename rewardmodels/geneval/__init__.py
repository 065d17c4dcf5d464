"""Whether a picture shows the objects, counts, colours and places that its prompt names, by any detector.

The rules are GenEval's (Ghosh et al. 2023, 2310.11513); since the detector is yours, scores are GenEval-like. `rules`
judges what was found, `prompts` says what is asked for, `colors` names colours, `detectors` finds things, `reward`
puts them together.
"""
