"""Attention backends: real calls, plain errors, and no network left half switched."""

from __future__ import annotations

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel, WanTransformer3DModel
from torch import nn

from mmalign import attention

CPU = torch.device("cpu")


def sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=4,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
    )


def wan() -> nn.Module:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=8,
    )


@pytest.mark.parametrize("backend", ["sdpa", "native", "math"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_proof_compares_a_real_call_with_plain_arithmetic(backend: str, dtype: torch.dtype) -> None:
    proof = attention.prove(backend, CPU, dtype)
    assert proof.device == "cpu"
    assert 0 < proof.max_difference < attention.TOLERANCE[dtype]
    assert 0 < proof.max_gradient_difference < attention.TOLERANCE[dtype]


def test_xformers_without_a_gpu_says_what_to_do() -> None:
    message = "xformers has no CPU kernel; use attention: sdpa, or run on a GPU machine"
    with pytest.raises(ValueError, match=message):
        attention.prove("xformers", "cpu")
    with pytest.raises(ValueError, match=message):
        attention.set_attention(sd3(), "xformers")


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="use sdpa, native"):
        attention.prove("magic")


def test_a_backend_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_dispatch", lambda q, k, v, backend: v * 1.0 + 0 * q + 0 * k)
    with pytest.raises(ValueError, match="is off by"):
        attention.prove("sdpa")


def test_a_backend_that_fails_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image\nsecond line")

    monkeypatch.setattr(attention, "_dispatch", fail)
    with pytest.raises(ValueError, match=r"RuntimeError: no kernel image\); use attention: sdpa"):
        attention.prove("sdpa")


def test_networks_that_dispatch_are_switched() -> None:
    network = wan()
    assert attention.set_attention(network, "math") == {"WanAttnProcessor": 2}
    assert {layer.processor._attention_backend.value for layer in attention._attention_layers(network)} == {
        "_native_math"
    }
    attention.set_attention(network, "sdpa")
    assert {layer.processor._attention_backend.value for layer in attention._attention_layers(network)} == {
        "native"
    }


def test_networks_with_fixed_processors_keep_them_and_refuse_the_rest() -> None:
    network = sd3()
    assert attention.set_attention(network, "sdpa") == {"JointAttnProcessor2_0": 1}
    with pytest.raises(
        ValueError, match="JointAttnProcessor2_0, which diffusers has for sdpa and xformers only"
    ):
        attention.set_attention(network, "math")
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(8,),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    assert attention.set_attention(unet, "sdpa").keys() == {"AttnProcessor2_0"}


def test_leaving_xformers_restores_the_joint_processor() -> None:
    from diffusers.models.attention_processor import XFormersJointAttnProcessor

    network = sd3()
    for layer in attention._attention_layers(network):
        layer.set_processor(XFormersJointAttnProcessor())
    assert attention.set_attention(network, "sdpa") == {"JointAttnProcessor2_0": 1}


def test_a_network_without_attention_is_an_error() -> None:
    with pytest.raises(ValueError, match="no attention layer"):
        attention.set_attention(nn.Linear(2, 2), "sdpa")


def test_the_report_names_what_works_here() -> None:
    found = attention.report()
    assert found["backends"]["sdpa"]["works"]
    assert found["packages"]["torch"]
    if found["device"] == "CPU":
        assert "no CPU kernel" in found["backends"]["xformers"]["reason"]
