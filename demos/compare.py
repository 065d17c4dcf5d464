"""`mmalign demo`: the same prompt and seed through several generators or LoRAs, side by side, with scores.

Arguments are checked before torch, diffusers or gradio are loaded. The page is served on this machine only unless
`--host` says otherwise, fetches nothing from elsewhere and reports to nobody.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demos import widgets
from demos.contest import (
    MAX_PICTURES,
    Generator,
    Named,
    Settings,
    compete,
    parse_named,
    read_prompt,
    read_seeds,
)
from demos.contest import unique as check_unique

if TYPE_CHECKING:
    from mmalign.types import RewardModel

LOOPBACK = ("127.0.0.1", "localhost", "::1")
QUEUE_SIZE = 16
EXAMPLES = (
    "a red circle",
    "two blue squares",
    "a green triangle above a yellow cross",
    "an orange circle and a blue square",
    "three purple crosses",
)
INTRODUCTION = (
    "# Same prompt, same noise, side by side\n"
    "Each column is a generator. Under a picture stand the scores of the chosen rewards; a star marks the one a "
    "reward prefers by more than half a percent. An exact judge also says whether the picture is right."
)


def launch(
    models: Sequence[str] = (),
    loras: Sequence[str] = (),
    rewards: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    dtype: str = "float32",
    num_steps: int = 20,
    guidance: float = 1.0,
    open_browser: bool = False,
) -> None:
    """Load the generators and rewards, then serve the page until Ctrl-C.

    `models` are paths or hub ids, `name=path` to name them; `loras` are folders, each shown beside the first
    model without it. Without a model the bundled flow generator is taken.
    """
    named_models, named_loras = parse_arguments(models, loras)
    check_address(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    from mmalign import console

    console.hide_hints()
    import rewardmodels
    from demos.generators import load_generators

    judges = [rewardmodels.load(name) for name in rewards]
    generators = load_generators(named_models, named_loras, device=device, dtype=dtype)
    page = build(generators, judges, num_steps=num_steps, guidance=guidance)
    if host not in LOOPBACK:
        print(
            f"Warning: {host} makes this page reachable from other machines, without a password.",
            file=sys.stderr,
        )
    print(f"Comparing {', '.join(g.name for g in generators)} on http://{host}:{port} (stop with Ctrl-C)")
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        quiet=True,
        show_error=True,
        enable_monitoring=False,
        ssr_mode=False,
        footer_links=[],
        theme=theme(),
        css=widgets.stylesheet(),
    )


def parse_arguments(models: Sequence[str], loras: Sequence[str]) -> tuple[list[Named], list[Named]]:
    """The named models and LoRAs of a command line; names must differ and LoRA folders exist."""
    named_models = [parse_named(text, "--model") for text in models or ("base=shapes-flow",)]
    named_loras = [parse_named(text, "--lora") for text in loras]
    check_unique([item.name for item in (*named_models, *named_loras)])
    for lora in named_loras:
        if not Path(lora.path).exists():
            raise ValueError(f"--lora {lora.name}: there is no file or folder {lora.path}")
    return named_models, named_loras


def check_address(host: str, port: int) -> None:
    """The address must be free, which is cheaper to learn before models are loaded."""
    if not 0 < port < 65536:
        raise ValueError(f"--port must be from 1 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as problem:
        raise ValueError(
            f"cannot serve on {host}:{port} ({problem}): choose another --port or --host"
        ) from problem


def theme() -> Any:
    """A quiet theme with the fonts of the reader's own system, so that nothing is fetched."""
    import gradio as gr

    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=sans, font_mono=mono)


def build(
    generators: Sequence[Generator],
    rewards: Sequence[RewardModel],
    *,
    num_steps: int = 20,
    guidance: float = 1.0,
    examples: Sequence[str] = EXAMPLES,
) -> Any:
    """The page, ready to be launched."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    names = [reward.name for reward in rewards]
    edits = any(generator.modality == "edit" for generator in generators)
    with gr.Blocks(title="mmalign: compare", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION, elem_classes="mm-title")
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(label="Prompt", placeholder=examples[0], scale=4, autofocus=True, max_lines=1)
            run = gr.Button("Generate", variant="primary", scale=1, min_width=150)
            stop = gr.Button("Stop", scale=0, min_width=110)
        gr.Examples([[example] for example in examples], inputs=[prompt], label="Prompts to try")
        with gr.Row(equal_height=True):
            seed = gr.Number(label="First seed", value=0, precision=0, minimum=0, maximum=2**31 - 1)
            other = gr.Button("New seed", scale=0, min_width=130)
            pictures = gr.Slider(1, MAX_PICTURES, value=2, step=1, label="Seeds")
            steps = gr.Slider(1, 100, value=num_steps, step=1, label="Steps")
            strength = gr.Slider(0, 15, value=guidance, step=0.5, label="Guidance")
        source = gr.Image(label="Image to edit", type="numpy", visible=edits)
        chosen = gr.CheckboxGroup(names, value=names, label="Rewards", visible=bool(names))
        shown = gr.HTML(widgets.message(widgets.HINT), padding=False)

        def answer(*values: Any) -> Iterator[str]:
            yield from respond(generators, rewards, *values)

        started = gr.on(
            [run.click, prompt.submit],
            answer,
            inputs=[prompt, seed, pictures, steps, strength, chosen, source],
            outputs=shown,
            api_name="compare",
            concurrency_limit=1,
            trigger_mode="once",
        )
        stop.click(None, cancels=[started], api_visibility="private")
        other.click(lambda: random.randrange(2**31), outputs=seed, api_visibility="private")
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=1)
    return page


def respond(
    generators: Sequence[Generator],
    rewards: Sequence[RewardModel],
    prompt: str | None,
    seed: float | None,
    num_pictures: float,
    num_steps: float,
    guidance: float,
    chosen: Sequence[str],
    source: Any = None,
) -> Iterator[str]:
    """The results as HTML, growing generator by generator; what cannot be done is said in the page."""
    try:
        words, seeds = read_prompt(prompt), read_seeds(seed, num_pictures)
        settings = Settings(seeds, int(num_steps), float(guidance), as_source(generators, source))
        judges = [reward for reward in rewards if reward.name in chosen]
        yield widgets.message(f"{generators[0].name} is at work …")
        names = [judge.name for judge in judges]
        for done, rounds in enumerate(compete(generators, judges, words, settings), start=1):
            waiting = f"{generators[done].name} is at work …" if done < len(generators) else None
            yield widgets.results(words, rounds, names, waiting)
    except ValueError as problem:
        yield widgets.message(str(problem), "problem")
    except (RuntimeError, OSError) as problem:
        print(f"demo: {type(problem).__name__}: {problem}", file=sys.stderr)
        yield widgets.message(f"This did not work: {problem}. Fewer seeds or steps may help.", "problem")


def as_source(generators: Sequence[Generator], source: Any) -> Any:
    """The uploaded image as (3, H, W) in [0, 1]; editing models cannot do without one."""
    if not any(generator.modality == "edit" for generator in generators):
        return None
    if source is None:
        raise ValueError("Please choose the image to edit.")
    import torch

    return torch.from_numpy(source).permute(2, 0, 1).float() / 255
