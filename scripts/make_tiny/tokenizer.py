"""The tiny model's tokenizer: byte-level BPE with Qwen's special tokens, learnt on the phantoms' own words.

It encodes any text (every byte has a token), but words of the phantom world are one token each, and three choices keep
prompts short enough for a laptop:

* each format's instruction is *one* token, as a BPE that may merge across blanks would make it;
* ``" A)"`` to ``" H)"`` are tokens, so that the option word behind them is a token of its own;
* ``<think>``, ``</think>``, ``<answer>`` and ``</answer>`` are ordinary (not special) tokens: decoding keeps them.

Words exist twice, with and without a leading blank (``"A)cyst"`` against ``"mild cyst"``); :func:`word_forms` lists the
pairs, because the build script gives both the same input embedding.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from medr1kit.data.phantoms import words_of
from medr1kit.data.phantoms.questions import DECOYS, KINDS
from medr1kit.formats import NO_THINK, THINK_AFTER, THINK_BEFORE
from medr1kit.vqa import MODALITIES

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
TAUGHT = (THINK_BEFORE, THINK_AFTER, NO_THINK)  # in this order the shipped vocabulary has their instructions
OPTION_LETTERS = tuple(f" {letter})" for letter in "ABCDEFGH")
# Qwen2-VL's chat template without its default system message, which would cost eight tokens a prompt, and with the
# line break before a turn, not after it, so that a completion ends with <|im_end|> in training as in sampling.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}"
)


def phantom_words() -> list[str]:
    """Return every word that can be an option or a fact of a phantom, in a fixed order."""
    words = [
        word
        for modality in MODALITIES
        for fact, vocabulary in words_of(modality).items()
        if fact != "view"
        for word in vocabulary
    ]
    return list(dict.fromkeys([*words, *(decoy for decoys in DECOYS.values() for decoy in decoys)]))


def word_forms(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """Return the token ids of each phantom word without and with a leading blank.

    Raises:
        ValueError: if a word is not a single token in both forms.
    """
    pairs = []
    for word in phantom_words():
        ids = [tokenizer.encode(form, add_special_tokens=False) for form in (word, f" {word}")]
        if any(len(form) != 1 for form in ids):
            raise ValueError(f"the word {word!r} is not a single token: {ids}")
        pairs.append((ids[0][0], ids[1][0]))
    return pairs


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the tokenizer from the phantoms' words, stems and rationales."""
    words = phantom_words()
    stems = [stem for kinds in KINDS.values() for kind in kinds for stem in kind.stems]
    glue = [
        "system user assistant",
        "In the liver: A cyst, in the lung. Taken together, small and single is mild. Of these: cyst no, mass yes.",
    ]
    glue += [". So the answer is cyst", "A B C D", " A B C D"]
    # Only words that occur become merges; repeating the phantom words makes them outrank chance pairs.
    corpus = [form for word in words for form in (word, f" {word}")] * 20 + (stems + glue) * 5

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=4000, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    plain = [*TAGS, *OPTION_LETTERS, "X-Ray", " X-Ray", *(f" {format.instruction}" for format in TAUGHT)]
    bpe.add_tokens([AddedToken(text, normalized=False) for text in plain])
    bpe.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[text for text in SPECIAL if text not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )
