"""Rewards on CLIP and BLIP: similarity of picture and prompt, and small heads on their embeddings.

`weights` reads published files, `squares` and `prompt_ids` prepare pictures and prompts as the towers were trained,
`towers` are the models, `frames` makes a reward of what looks at one picture. The rewards: `similarity` (CLIPScore,
PickScore, HPSv2, Social Reward), `embedding_head` (LAION aesthetic and its like), `image_reward` (BLIP).

Training (`mmalign train-reward clip/pick-like`): `recipe` says what, `starts` builds or loads the `scorers`, `tuning`
says which weights move, `training` is the task of the loop, and `trained` the reward that is saved with its `settings`.
"""
