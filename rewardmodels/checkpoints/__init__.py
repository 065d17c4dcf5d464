"""Readers of published reward checkpoints, one file a layout.

    video_reward   VideoReward / VideoAlign     model_config.json + checkpoint-*/model.pth, or adapter pair
    hpsv3          HPSv3                        HPSv3.safetensors
    edit_reward    EditReward                   model.safetensors with rm_heads.head_0 and .head_1
    vefx           VEFX-Reward                  vefx_config.json + safetensors

Each takes a folder or hub id, translates the names to those of the stock classes, merges adapters, loads strictly
(nothing missing, nothing left over, nothing random) and leaves a report at `reward.report`. Text judges are read by
`rewardmodels.judges`, CLIP and BLIP ones by `rewardmodels.clip`.
"""
