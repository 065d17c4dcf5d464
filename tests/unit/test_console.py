"""What is said while PyTorch loads, and only then; a number with its noun."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mmalign import console

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_notice_is_given_once_when_torch_begins_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setattr(sys, "modules", {name: m for name, m in sys.modules.items() if name != "torch"})
    console.tell_loading()
    (notice,) = sys.meta_path
    notice.find_spec("json", None)
    assert terminal.getvalue() == "" and sys.meta_path == [notice]
    notice.find_spec("torch", None)
    assert terminal.getvalue() == f"{console.LOADING}\n" and sys.meta_path == []


@pytest.mark.parametrize("why", ["no terminal", "another process", "loaded"])
def test_no_notice_where_it_would_not_help(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = dict(sys.modules) if why == "loaded" else {n: m for n, m in sys.modules.items() if n != "torch"}
    if why == "loaded":
        modules["torch"] = sys
    monkeypatch.setattr(sys, "stderr", io.StringIO() if why == "no terminal" else Terminal())
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setattr(sys, "modules", modules)
    monkeypatch.setenv("LOCAL_RANK", "1" if why == "another process" else "0")
    console.tell_loading()
    assert sys.meta_path == []


@pytest.mark.slow
def test_a_verb_says_it_on_a_terminal_and_help_does_not(tmp_path: Path) -> None:
    def shown(*words: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "mmalign", *words]
        subprocess.run(command, stderr=theirs, stdout=subprocess.DEVNULL, cwd=ROOT, check=False)
        os.write(theirs, b"end")
        os.close(theirs)
        return os.read(ours, 65536).decode()

    told = shown("data", "votes", str(tmp_path / "none.jsonl"))
    assert told.startswith(console.LOADING) and "no such file" in told
    assert console.LOADING not in shown("data", "--help")
