"""The tokenizer of the bundled generators: one token a word, the same wherever and whenever it is made."""

import hashlib
import json

from mmalign.shapes import vocabulary
from mmalign.shapes.architectures import build_tokenizer


def test_every_word_of_the_world_is_one_token_of_its_own():
    tokenizer = build_tokenizer(vocabulary())
    numbers = [tuple(tokenizer(word, add_special_tokens=False).input_ids) for word in vocabulary()]
    assert {len(number) for number in numbers} == {1}
    assert len(set(numbers)) == len(set(vocabulary()))


def test_the_numbers_of_tokens_never_change():
    known = json.dumps(build_tokenizer(["red", "circle", "a", "cat"]).get_vocab(), sort_keys=True)
    assert known == json.dumps(build_tokenizer(["cat", "a", "red", "circle"]).get_vocab(), sort_keys=True)
    # a pretraining that is killed and resumed must find the tokens it began with
    assert hashlib.sha256(known.encode()).hexdigest()[:16] == "4adda2d048ffd894"
