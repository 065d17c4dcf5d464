"""The HTTP engine against a real server: retries, garbage, slowness, limits, cache and budget."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from PIL import Image

from rewardmodels.judges.answers import Answers
from rewardmodels.judges.budget import Budget
from rewardmodels.judges.chat import Question, Sampling, ask
from rewardmodels.judges.endpoint import Endpoint, _complete
from tests.unit.rewardmodels.judges.chat_server import Reply, likely, said, serve, text_of

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

PICTURE = torch.arange(3 * 5 * 7).view(3, 5, 7) / 104


def engine(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, "judge", **{"retries": 2, "backoff": 0.01, "timeout": 5.0, **options})


def ask_all(made: Endpoint, *texts: str, **sampling: Any) -> list[str | None]:
    """What comes back for each: the text, or the problem in brackets."""
    found = made.generate([ask(text) for text in texts], [Sampling(**sampling)] * len(texts))
    return [answer.text if answer.problem is None else f"({answer.problem})" for answer in found]


def echo(request: dict[str, Any], _: int) -> Reply:
    return said(f"you said {text_of(request)}")


def test_answers_come_back_in_order_and_pictures_arrive_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with serve(echo) as seen:
        made = engine(seen.url, key_env="JUDGE_KEY")
        questions = [ask("a", PICTURE, "?", system="You judge."), ask("b")]
        answers = made.generate(questions, [Sampling(seed=3)] * 2)
    assert [answer.text for answer in answers] == ["you said You judge. a ?", "you said b"]
    request = next(one for one in seen.requests if len(one["messages"]) == 2)
    assert seen.paths[0] == "/v1/chat/completions" and seen.keys[0] == "Bearer secret"
    assert request["temperature"] == 0.0 and request["seed"] == 3 and request["model"] == "judge"
    url = request["messages"][1]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert np.array_equal(pixels, (PICTURE * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "fault",
    [
        (429, "slow down", {"Retry-After": "0.01"}),
        (503, "", {}),
        (500, "<html>oops</html>", {}),
        (0, "", {}),
        (200, "no json {", {}),
        (200, {"choices": []}, {}),
        (200, {"choices": [{"message": {"content": None}}]}, {}),
        (200, [1, 2], {}),
    ],
)
def test_faults_are_tried_again(fault: Reply) -> None:
    with serve(lambda request, number: fault if number == 0 else said("fine")) as seen:
        assert ask_all(engine(seen.url), "a") == ["fine"]
    assert len(seen.requests) == 2


def test_what_stays_broken_is_a_problem_of_one_question() -> None:
    def answer(request: dict[str, Any], _: int) -> Reply:
        return (200, "garbage!", {}) if "bad" in text_of(request) else said("fine")

    with serve(answer) as seen:
        good, bad = ask_all(engine(seen.url), "good", "bad")
    assert good == "fine" and "garbage!" in bad and "tried 3 times" in bad and len(seen.requests) == 4


def test_a_refused_request_is_not_repeated() -> None:
    with serve(lambda request, number: (400, "the image is too large", {})) as seen:
        (problem,) = ask_all(engine(seen.url), "a")
    assert "answered 400" in problem and "the image is too large" in problem and len(seen.requests) == 1


@pytest.mark.parametrize(("status", "mend"), [(401, "set OPENAI_API_KEY"), (404, "no model 'judge'")])
def test_wrong_key_or_model_is_an_error_for_all(status: int, mend: str) -> None:
    with serve(lambda request, number: (status, "no", {})) as seen, pytest.raises(ValueError, match=mend):
        ask_all(engine(seen.url), *"abcdef")


def test_a_slow_server_times_out_with_a_reason() -> None:
    with serve(echo, delay=0.5) as seen:
        (problem,) = ask_all(engine(seen.url, timeout=0.05, retries=1), "a")
    assert "no answer from" in problem and "tried 2 times" in problem


def test_nobody_listening_is_a_reason() -> None:
    with serve(echo) as seen:
        url = seen.url
    (problem,) = ask_all(engine(url, retries=0), "a")
    assert "no answer from" in problem


def test_no_more_requests_at_once_than_allowed_but_that_many() -> None:
    with serve(echo, delay=0.05) as seen:
        ask_all(engine(seen.url, concurrency=3), *"abcdefgh")
    assert seen.most_at_once == 3 and len(seen.requests) == 8


def test_it_also_works_where_an_event_loop_runs() -> None:
    async def notebook() -> list[str | None]:
        return ask_all(engine(seen.url), "a")

    with serve(echo) as seen:
        assert asyncio.run(notebook()) == ["you said a"]


# ---------------------------------------------------------------- cache


def test_equal_questions_are_asked_once_and_kept_answers_never(tmp_path: Path) -> None:
    with serve(echo) as seen:
        made = engine(seen.url, answers=Answers(tmp_path / "answers.db"))
        assert ask_all(made, "a", "a", "b") == ["you said a", "you said a", "you said b"]
        assert len(seen.requests) == 2
        made.answers.close()
    later = engine(seen.url, retries=0, answers=Answers(tmp_path / "answers.db"))  # nobody listens any more
    kept, missing = ask_all(later, "b", "c")
    assert kept == "you said b" and "no answer" in missing and len(later.answers) == 2


CHANGES: list[Callable[[Question, Sampling], tuple[Question, Sampling]]] = [
    lambda q, s: (ask("other", PICTURE), s),
    lambda q, s: (ask("a", (PICTURE + 1 / 255).clamp(max=1)), s),
    lambda q, s: (ask("a", PICTURE.transpose(1, 2)), s),
    lambda q, s: (ask(PICTURE, "a"), s),
    lambda q, s: (ask("a", PICTURE, system="x"), s),
    lambda q, s: (Question(q.messages, start="so"), s),
    lambda q, s: (q, Sampling(seed=1, temperature=0.5)),
    lambda q, s: (q, Sampling(temperature=0.6)),
    lambda q, s: (q, Sampling(max_tokens=9, temperature=0.5)),
    lambda q, s: (q, Sampling(top_p=0.9, temperature=0.5)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_an_answer_is_in_its_key(change: Callable[..., tuple[Question, Sampling]]) -> None:
    with serve(echo) as seen:
        made = engine(seen.url)
        first = ask("a", PICTURE), Sampling(temperature=0.5)
        for question, how in (first, first, change(*first), first):
            made.generate([question], [how])
        assert len(seen.requests) == 2


def test_another_model_is_another_answer() -> None:
    with serve(echo) as seen:
        answers = Answers()
        ask_all(Endpoint(seen.url, "one", answers=answers), "a")
        ask_all(Endpoint(seen.url, "two", answers=answers), "a")
    assert len(seen.requests) == 2


def test_answers_are_kept_as_they_arrive(tmp_path: Path) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return said("fine") if number < 3 else (401, "the key expired", {})

    with serve(answer) as seen:
        made = engine(seen.url, concurrency=1, answers=Answers(tmp_path / "answers.db"))
        with pytest.raises(ValueError, match="refused the key"):
            ask_all(made, *"abcdef")
    assert len(Answers(tmp_path / "answers.db")) == 3


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello, this is no database" * 50)
    with pytest.raises(ValueError, match="name another cache file"):
        Answers(tmp_path / "x.db")


# ---------------------------------------------------------------- budget


def test_spent_requests_are_a_reason_and_the_next_run_goes_on(tmp_path: Path) -> None:
    cache = tmp_path / "answers.db"
    with serve(echo) as seen:
        first = engine(seen.url, concurrency=1, budget=Budget(max_requests=2), answers=Answers(cache))
        found = ask_all(first, *"abcd")
        assert found[:2] == ["you said a", "you said b"]
        assert all("budget of 2 requests is spent" in one for one in found[2:])
        second = engine(seen.url, budget=Budget(max_requests=2), answers=Answers(cache))
        assert ask_all(second, *"abcd") == [f"you said {letter}" for letter in "abcd"]
    assert len(seen.requests) == 4


def test_retries_count_and_tokens_count() -> None:
    with serve(lambda request, number: (500, "", {})) as seen:
        (problem,) = ask_all(engine(seen.url, retries=9, budget=Budget(max_requests=3)), "a")
    assert "requests is spent" in problem and "answered 500" in problem and len(seen.requests) == 3
    with serve(echo) as seen:
        found = ask_all(engine(seen.url, concurrency=1, budget=Budget(max_tokens=15)), *"abc")
    assert [one.startswith("you") for one in found] == [True, True, False] and "15 tokens" in found[2]


def test_spent_seconds_stop_slow_requests_too() -> None:
    with serve(echo, delay=1.0) as seen:
        found = ask_all(engine(seen.url, concurrency=1, budget=Budget(max_seconds=0.1)), "a", "b")
    assert all("seconds is spent" in one for one in found) and len(seen.requests) == 1


# ---------------------------------------------------------------- probabilities


def test_variants_of_a_word_are_added_up() -> None:
    tokens = [("Yes", math.log(0.4)), (" yes", math.log(0.1)), ("no", math.log(0.25)), ("The", math.log(0.2))]
    with serve(lambda request, number: likely(tokens)) as seen:
        (both,) = engine(seen.url).first_words([ask("a")], ["yes", "no"])
        (exact,) = engine(seen.url).first_words([ask("a")], ["Yes", "no"], variants=False)
    assert both.mass == pytest.approx(0.75) and both.shares() == pytest.approx((2 / 3, 1 / 3))
    assert exact.shares() == pytest.approx((0.4 / 0.65, 0.25 / 0.65))
    assert seen.requests[0]["top_logprobs"] == 20 and seen.requests[0]["max_tokens"] == 1


def test_a_word_that_is_not_reported_has_probability_0_and_none_at_all_is_a_problem() -> None:
    with serve(lambda request, number: likely([("3", math.log(0.5)), ("x", -1.0)])) as seen:
        (words,) = engine(seen.url).first_words([ask("a")], [str(d) for d in range(6)])
        (nothing,) = engine(seen.url).first_words([ask("a")], ["yes", "no"])
    assert words.shares() == (0, 0, 0, 1, 0, 0) and words.mass == pytest.approx(0.5)
    assert nothing.problem is not None and "the likeliest is '3'" in nothing.problem


def test_a_server_without_probabilities_is_a_problem() -> None:
    with serve(echo) as seen:
        (words,) = engine(seen.url, retries=0).first_words([ask("a")], ["yes", "no"])
    assert words.problem is not None and "no token probabilities" in words.problem


def test_an_answer_that_goes_on_is_marked_for_the_server() -> None:
    with serve(echo) as seen:
        engine(seen.url).generate([Question(ask("a").messages, start="Verdict:")], [Sampling()])
    request = seen.requests[0]
    assert request["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "Verdict:"}]}
    assert request["continue_final_message"] is True and request["add_generation_prompt"] is False


def failing(*errors: Exception) -> Callable[[], Any]:
    """Requests side by side: the first fails at once, the others as they are called off."""

    async def fail(error: Exception, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            raise error from None
        raise error

    async def start() -> dict[str, Any]:
        async with anyio.create_task_group() as group:
            for k, error in enumerate(errors):
                group.start_soon(fail, error, 60.0 * k)
        return {}

    return start


def test_all_errors_of_requests_side_by_side_are_told_in_one() -> None:
    key, disk = ValueError("the key was refused: set KEY"), OSError("no space left on device")
    with pytest.raises(ValueError, match=r"^the key was refused: set KEY; no space left on device$"):
        _complete(failing(key, ValueError("the key was refused: set KEY"), disk))
    with pytest.raises(OSError, match="no space left") as alone:
        _complete(failing(disk, OSError("no space left on device")))
    assert alone.type is OSError
    with pytest.raises(ExceptionGroup) as both:
        _complete(failing(key, KeyError("bug")))
    assert {type(one) for one in both.value.exceptions} == {ValueError, KeyError}
