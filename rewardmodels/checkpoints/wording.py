"""The prompts, in our words, under which published reward models are asked. Text only; imports nothing.

A published checkpoint learned one exact prompt, which is not repeated here. These ask for the same judgements in the
same order with the same special tokens, so scores come close but are not the published ones; give the exact text as a
file (`template_file`) to get those.
"""

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
USER, ANSWER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"

VIDEO_REWARD = (
    SYSTEM + USER + "{media}"
    "Judge this generated video on three points, each from 0 (worst) to 10 (best).\n"
    "Visual quality: are the frames clear, plausible and good to look at, without artefacts?\n"
    "Score: <|VQ_reward|>\n"
    "Motion quality: is the movement natural, stable and of a fitting strength, without flicker?\n"
    "Score: <|MQ_reward|>\n"
    "Text alignment: does the video show the subjects, actions, place and style of the description?\n"
    "Description: {prompt}\n"
    "Score: <|TA_reward|>" + ANSWER
)
"""Visual and motion quality stand before the description, so that they cannot depend on it."""

HPSV3 = (
    SYSTEM + USER + "{media}"
    "How much would people like this picture as an answer to the description below? Consider how well it shows what "
    "is described, and how good it looks: composition, detail, colour, absence of artefacts.\n"
    "Description: {prompt}\n"
    "Score from 0 to 10: <|Reward|>" + ANSWER
)

EDIT_FOLLOWING = (
    SYSTEM + USER + "{source}{media}"
    "The second picture is an edit of the first. Does the edit do what the instruction asks, all of it and no more?\n"
    "Instruction: {prompt}\n"
    "Score from 1 to 4: <|Reward|>" + ANSWER
)

EDIT_QUALITY = (
    SYSTEM + USER + "{source}{media}"
    "The second picture is an edit of the first. Is it well made: natural, consistent with the first where nothing "
    "should change, and free of artefacts?\n"
    "Instruction: {prompt}\n"
    "Score from 1 to 4: <|Reward|>" + ANSWER
)

VEFX = (
    USER + "{source}{media}"
    "The second video is an edit of the first. Judge the edit on three points, each from 1 (bad) to 4 (good).\n"
    "Instruction: {prompt}\n"
    "Instruction following: was everything asked for done? <|IF_reward|>\n"
    "Rendering quality: is the result clean and stable over time? <|RQ_reward|>\n"
    "Edit exclusivity: did everything else stay as it was? <|EE_reward|>" + ANSWER
)
