"""The group sampler: whole groups, the same samples on any number of processes, no repeats in an epoch."""

import json
from collections import Counter

import pytest

from mmalign.data.prompts import ListedPrompts, Prompt, plan, prompt_source, read_prompts
from mmalign.seeds import generators, normal, seed_of
from mmalign.shapes import parse


def _plans(num_processes, **options):
    settings = {"num_groups": 8, "group_size": 6, "num_updates": 2, "batch_size": 16} | options
    return [plan(num_processes=num_processes, rank=rank, **settings) for rank in range(num_processes)]


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_every_update_sees_the_same_samples_on_any_number_of_processes(num_processes):
    plans = _plans(num_processes)
    for update in range(2):
        seen = sorted(i for p in plans for batch in p.batches[update] for i in batch)
        assert seen == list(range(update * 24, (update + 1) * 24))


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_groups_lie_whole_on_one_process(num_processes):
    owner = {}
    for rank, p in enumerate(_plans(num_processes)):
        assert p.whole_groups
        for batches in p.batches:
            for batch in batches:
                for group in p.groups_of(batch):
                    assert owner.setdefault(group, rank) == rank
    assert set(owner) == set(range(8))


def test_groups_are_split_only_when_they_must_be():
    plans = _plans(2, num_groups=1, num_updates=1)
    assert not plans[0].whole_groups
    assert [p.batches[0] for p in plans] == [((0, 1, 2),), ((3, 4, 5),)]


def test_micro_batches_are_equal_and_as_large_as_allowed():
    p = plan(num_groups=6, group_size=5, num_updates=1, num_processes=1, rank=0, batch_size=12)
    assert [len(batch) for batch in p.batches[0]] == [10, 10, 10]
    assert "= 30 samples an iteration = 1 update x 1 process x 3 micro-batches x 10" in p.describe()


def test_division_that_does_not_come_out_says_what_to_change():
    with pytest.raises(ValueError, match="multiple of 10"):
        plan(num_groups=3, group_size=3, num_updates=2, num_processes=5, rank=0, batch_size=4)


def test_an_epoch_holds_every_prompt_once_and_epochs_differ():
    source = ListedPrompts(tuple(Prompt(str(i)) for i in range(12)))
    epochs = [
        [p.text for it in range(e * 3, e * 3 + 3) for p in source.draw(4, seed=1, iteration=it)]
        for e in (0, 1)
    ]
    assert all(sorted(epoch, key=int) == [str(i) for i in range(12)] for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert source.draw(4, seed=1, iteration=1) == source.draw(4, seed=1, iteration=1)
    assert source.draw(4, seed=1, iteration=1) != source.draw(4, seed=2, iteration=1)


def test_too_few_prompts_is_an_error():
    with pytest.raises(ValueError, match="needs 3 different prompts but the file has 2"):
        ListedPrompts((Prompt("a"), Prompt("b"))).draw(3, seed=0, iteration=0)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_shapes_prompts_come_from_every_category_equally_often_and_are_repeatable(split):
    source = prompt_source(f"shapes:{split}")
    drawn = [p.text for p in source.draw(70, seed=0, iteration=5)]
    assert set(Counter(parse(text).category for text in drawn).values()) == {10}
    assert drawn == [p.text for p in source.draw(70, seed=0, iteration=5)]
    assert drawn != [p.text for p in source.draw(70, seed=0, iteration=6)]


def test_some_categories_are_drawn_and_one_named_twice_twice_as_often():
    source = prompt_source("shapes:train:counting,position,position")
    drawn = Counter(parse(prompt.text).category for prompt in source.draw(30, seed=0, iteration=0))
    assert drawn == {"counting": 10, "position": 20}


def test_files_are_read_with_sources_and_metadata(tmp_path):
    text = tmp_path / "prompts.txt"
    text.write_text("a red circle\n\na blue square\n")
    assert [p.text for p in read_prompts(text)] == ["a red circle", "a blue square"]
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"prompt": "make it red", "source": "a.png", "target": "red"}) + "\n")
    assert read_prompts(rows) == (Prompt("make it red", tmp_path / "a.png", {"target": "red"}),)
    rows.write_text('{"text": "no prompt"}\n')
    with pytest.raises(ValueError, match=r"prompts.jsonl:1 must be an object with a text 'prompt'"):
        read_prompts(rows)


@pytest.mark.parametrize(
    "name,part",
    [
        ("shapes:test", "shapes:train"),
        ("missing.txt", "no prompt file"),
        ("shapes:train:countin", "'counting'"),
    ],
)
def test_unknown_prompts_are_named(name, part):
    with pytest.raises(ValueError, match=part):
        prompt_source(name)


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    import torch

    like = torch.zeros(1)
    together = normal((3, 2), generators(0, 7, "noise", index=[4, 5, 6]), like)
    alone = normal((3, 2), generators(0, 7, "noise", index=[5]), like)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


def test_streams_with_other_types_or_borders_differ():
    assert len({seed_of(1, "a"), seed_of("1", "a"), seed_of("1a"), seed_of("a", 1), seed_of(1, "a", 0)}) == 5


def test_a_line_ends_with_a_line_feed_only(tmp_path):
    odd = "one\u2028two\x0cthree"
    (tmp_path / "a.jsonl").write_bytes(f'\ufeff{{"prompt": "{odd[:7]}"}}\r\n\n{{"prompt": "x"}}\n'.encode())
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.jsonl")] == [odd[:7], "x"]
    (tmp_path / "a.txt").write_text(f"{odd}\n\nsecond\n", encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.txt")] == [odd, "second"]
    (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "x"}\n\n{"prompt"}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl:3 is not valid JSON"):
        read_prompts(tmp_path / "b.jsonl")
    (tmp_path / "c.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"c\.txt:1 is not UTF-8"):
        read_prompts(tmp_path / "c.txt")
