"""Make the built-in model: ``python -m scripts.make_tiny.build`` (about 41 minutes of one core, 10 GB of memory).

A two-million-parameter Qwen2-VL learns to name what it sees within minutes, but is slow to *bind* it: to go from a seen
concept to the letter of the option that names it. A cross-entropy on the answer letter alone hardly leaves chance,
because three attention steps must exist before the first of them pays. In an experiment beforehand it stood at .32
after 245 steps, and with the throw-away head of stage 1 at .97 after 138. So the problem is split:

1. **Bind** (text only). A few positions hold the *sum of six word embeddings*, as an image will later. A throw-away
   head on the option words learns "is this word in that sum?", which gives every step of the circuit its own gradient.
2. **See** (vision only). Tower and merger learn to emit that sum of embeddings for a phantom image.
3. **Speak** (everything but the tower). All three response formats, with rationales. What a rationale *concludes*
   weighs more than what it describes, and in some rows the facts are those of another picture: the answer has to
   follow from what was written.

In all stages the labels are those of an annotator who cannot tell some findings apart
(:mod:`medr1kit.data.phantoms.twins`), and all pictures are from scanner A: so there is something to learn, and another
machine to get used to.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from medr1kit.data.phantoms import phantom_rows
from medr1kit.formats import FORMATS
from medr1kit.models.load import TINY
from medr1kit.models.processor import image_processor_only
from medr1kit.vqa import LETTERS, MODALITIES
from scripts.make_tiny.examples import FACTS, annotated, encode
from scripts.make_tiny.model import initialise, make_model
from scripts.make_tiny.tokenizer import build_tokenizer, word_forms

SIDE = 112  # pixels; 8 x 8 patches, 16 image tokens
AUX_LAYER = 2  # the throw-away head reads the hidden state after this many of the four layers
DATA_SEED = 1000  # phantoms for this build; users' seeds 0, 1, 2, ... give other images
FORMAT_SHARES = {"think-before": 0.5, "think-after": 0.25, "no-think": 0.25}  # of the examples of the last stage


@dataclass
class Recipe:
    """Steps, batches and rates of the three stages; every default is what made the shipped model."""

    seed: int = 1
    bind_steps: int = 700
    bind_batch: int = 96
    bind_rate: float = 2e-3
    see_images: int = 24000
    see_steps: int = 1500
    see_batch: int = 64
    see_rate: float = 1.5e-3
    speak_steps: int = 3600
    speak_batch: int = 48
    speak_rate: float = 1.5e-3
    conclusion_weight: float = 2.0  # of a token of the conclusion, one of the description weighs 1
    borrowed_first: float = 0.6  # share of think-before rows whose facts are those of another picture, at the start
    borrowed_last: float = 0.3  # and at the end


class Builder:
    """Model, tokenizer and the throw-away head, with one method a stage."""

    def __init__(self, recipe: Recipe):
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.rng = np.random.default_rng([recipe.seed, DATA_SEED])
        self.tokenizer = build_tokenizer()
        self.model = make_model(self.tokenizer)
        initialise(self.model)
        self.language = self.model.model.language_model
        self.visual = self.model.model.visual
        self.embed = self.language.embed_tokens
        self.flags = torch.nn.Linear(128, 5)  # per option word: the letter it would be, or "none"
        self.forms = torch.tensor(word_forms(self.tokenizer))  # (words, 2): ids without and with a leading blank
        self.word_index = {self.tokenizer.decode([bare]): i for i, (bare, _) in enumerate(self.forms.tolist())}
        self.started = time.process_time()
        self.log: list[dict] = []
        self._one_embedding_per_word()
        with torch.no_grad():  # what an image token says can then be said at once
            self.model.lm_head.weight.copy_(self.embed.weight)
        self._patches_by_matmul()

    def _one_embedding_per_word(self) -> None:
        with torch.no_grad():
            mean = self.embed.weight[self.forms].mean(dim=1)  # (words, hidden)
            self.embed.weight[self.forms[:, 0]] = mean
            self.embed.weight[self.forms[:, 1]] = mean

    def _reseed(self, stage: int) -> None:
        """Make a stage's random numbers independent of the stages before it, so that each can be tuned by itself."""
        torch.manual_seed(self.recipe.seed + stage)
        self.rng = np.random.default_rng([self.recipe.seed, DATA_SEED, stage])

    def _patches_by_matmul(self) -> None:
        """Compute the patch convolution as the equal matrix product, twice as fast on a CPU."""
        projection = self.visual.patch_embed.proj
        self.visual.patch_embed.forward = lambda patches: F.linear(patches, projection.weight.flatten(1))

    def note(self, stage: str, step: int, **values: float) -> None:
        row = {"stage": stage, "step": step, "cpu_s": round(time.process_time() - self.started, 1)}
        self.log.append(
            row | {name: round(float(torch.as_tensor(value).detach()), 4) for name, value in values.items()}
        )
        print(json.dumps(self.log[-1]), flush=True)

    def id(self, text: str) -> int:
        return self.tokenizer.encode(text, add_special_tokens=False)[0]

    # ---- 1. bind -------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Teach the language model to go from a sum of word embeddings to the letter of the option it contains."""
        recipe, parameters = self.recipe, [*self.language.parameters(), *self.model.lm_head.parameters()]
        optimiser = torch.optim.AdamW([*parameters, *self.flags.parameters()], lr=recipe.bind_rate, betas=(0.9, 0.98))
        n_words, spread, right = 24, 0.0, np.zeros(2)  # of the word in the sum, of the word in the thought
        for step in range(1, recipe.bind_steps + 1):
            optimiser.param_groups[0]["lr"] = recipe.bind_rate * min(1.0, step / 20)
            batch_right, loss = self._bind_step(n_words, spread)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            self._one_embedding_per_word()
            right = 0.9 * right + 0.1 * np.array(batch_right)
            if right[0] > (0.6 if spread else 0.85):  # the circuit exists: widen to all words, noise and distances
                spread = min(1.0, spread + 1 / 200)
                n_words = round(24 + spread * (len(self.forms) - 24))
            if step % 25 == 0:
                self.note("bind", step, right=right[0], follows=right[1], loss=loss, spread=spread)

    def _bind_step(self, n_words: int, spread: float) -> tuple[list[float], torch.Tensor]:
        rows = self.recipe.bind_batch
        words = torch.from_numpy(np.stack([self.rng.permutation(n_words)[: len(FACTS) + 3] for _ in range(rows)]))
        facts, others = words[:, : len(FACTS)], words[:, len(FACTS) :]
        gold = torch.from_numpy(self.rng.integers(4, size=rows))  # (rows,)
        options = torch.cat([facts[:, :1], others], dim=1)  # (rows, 4), the first is in the sum
        order = (torch.arange(4) - gold[:, None]) % 4  # rotation that puts the first option at letter `gold`
        options = options.gather(1, order)
        asked = torch.from_numpy(self.rng.integers(4, size=rows))  # a word -> letter query behind the answer
        ids, option_at, answer_at = self._bind_ids(options, asked)
        embeds = self.embed(ids)
        soup = self.embed(self.forms[facts, 0]).sum(1, keepdim=True).expand(-1, 4, -1)  # (rows, 4, hidden)
        noise = torch.randn_like(soup) * soup.detach().std() * spread
        embeds = torch.cat([embeds[:, :1], soup + noise, embeds[:, 5:]], dim=1)
        gaps = torch.zeros_like(ids)
        gaps[:, 6] = torch.from_numpy(self.rng.integers(int(35 * spread) + 1, size=rows))
        gaps[:, answer_at] = torch.from_numpy(self.rng.integers(int(15 * spread) + 1, size=rows))
        positions = torch.arange(ids.shape[1]) + gaps.cumsum(1)
        hidden, flags = self._read(embeds, positions.expand(3, -1, -1), None, option_at.expand(rows, -1))
        letters = torch.tensor([self.id(letter) for letter in LETTERS[:4]])
        spaced = torch.tensor([self.id(f" {letter}") for letter in LETTERS[:4]])
        logits = self.model.lm_head(hidden[:, [answer_at, answer_at + 1, -1]])  # (rows, 3, vocabulary)
        own = torch.where(torch.arange(4) == gold[:, None], gold[:, None], 4)  # (rows, 4)
        wanted = (letters[gold], spaced[asked], letters[asked])
        loss = sum(F.cross_entropy(logits[:, place], ids) for place, ids in enumerate(wanted))
        loss = loss + F.cross_entropy(flags.flatten(0, 1), own.flatten())
        return [(logits[:, place].argmax(-1) == wanted[place]).float().mean().item() for place in (0, 2)], loss

    def _bind_ids(self, options: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        """``<vision_start> 4 sums <vision_end> A)w, B)w, C)w, D)w <answer> w'</think><answer>`` as ids (rows, length).

        After the first ``<answer>`` comes the letter of the word in the sum, after w' and the second that of w'.
        """
        rows = len(options)
        bare, spaced = self.forms[options, 0], self.forms[options.gather(1, asked[:, None]), 1]
        config = self.model.config

        def column(token: int) -> torch.Tensor:
            return torch.full((rows, 1), token)

        columns = [column(config.vision_start_token_id), *[column(config.image_token_id)] * 4]
        columns.append(column(config.vision_end_token_id))
        for k in range(4):
            columns += [column(self.id(f" {LETTERS[k]})")), bare[:, k : k + 1]]
            columns += [column(self.id(","))] if k < 3 else []
        columns += [column(self.id("<answer>")), spaced, column(self.id("</think>")), column(self.id("<answer>"))]
        return torch.cat(columns, dim=1), torch.tensor([[7, 10, 13, 16]]), 17

    def _read(self, embeds, positions, mask, option_at) -> tuple[torch.Tensor, torch.Tensor]:
        """Final hidden states (rows, length, hidden) and the match flags at the option words (rows, 4, 5)."""
        inputs = {"inputs_embeds": embeds, "position_ids": positions, "attention_mask": mask}
        output = self.language(**inputs, output_hidden_states=True, use_cache=False)
        early = output.hidden_states[AUX_LAYER]
        words = early.gather(1, option_at[..., None].expand(-1, -1, early.shape[-1]))  # (rows, 4, hidden)
        return output.last_hidden_state, self.flags(F.rms_norm(words, words.shape[-1:]))

    # ---- 2. see --------------------------------------------------------------------------------------------------

    def load_images(self) -> None:
        """Draw the training phantoms, cut them into patches and let the annotator describe them."""
        rows = phantom_rows("train", n=self.recipe.see_images, seed=DATA_SEED, size=SIDE)
        processor = Qwen2VLImageProcessorPil(size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE})
        patches = [processor(row["image"], return_tensors="pt")["pixel_values"].half() for row in rows]
        self.patches = torch.stack(patches)  # (images, 64, 1176)
        self.rows = [annotated(row, self.rng) for row in rows]
        self.facts = torch.tensor([[self.word_index[row["truth"][fact]] for fact in FACTS] for row in self.rows])
        self.note("draw", len(rows))

    def tower(self, images: torch.Tensor) -> torch.Tensor:
        """Features of the vision tower before the merger: (images, 64, 128)."""
        patches = self.patches[images].float().flatten(0, 1)
        grid = torch.tensor([[1, 8, 8]]).expand(len(images), -1)
        return self.visual(patches, grid_thw=grid).last_hidden_state.view(len(images), 64, -1)

    def see(self) -> None:
        """Teach tower and merger to emit, at each image token, the sum of the embeddings of the image's words."""
        self._reseed(2)
        recipe = self.recipe
        heads = torch.nn.ModuleList(torch.nn.Linear(16 * 128, len(self.forms)) for _ in range(len(FACTS)))
        parameters = [*self.visual.parameters(), *heads.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=recipe.see_rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.see_rate, total_steps=recipe.see_steps)
        words = self.embed.weight[self.forms[:, 0]].detach()  # (words, hidden)
        # Which words a fact can be: 1 where some phantom has that word as that fact.
        possible = torch.zeros(len(FACTS), len(words), dtype=torch.bool)
        for fact in range(len(FACTS)):
            possible[fact, self.facts[:, fact].unique()] = True
        right = torch.zeros(len(FACTS))
        for step, images in enumerate(self._batches(recipe.see_steps, recipe.see_batch), 1):
            merged = self.visual.merger(self.tower(images).flatten(0, 1)).view(len(images), 16, -1)
            facts = self.facts[images]
            loss = F.mse_loss(merged, words[facts].sum(1, keepdim=True).expand_as(merged)) / words.var()
            similar = 15 * F.normalize(merged.mean(1), dim=-1) @ F.normalize(words, dim=-1).T  # (images, words)
            for fact in range(len(FACTS)):
                scores = similar.masked_fill(~possible[fact], -1e4)
                loss = loss + F.cross_entropy(scores, facts[:, fact])
                loss = loss + 0.5 * F.cross_entropy(heads[fact](merged.flatten(1)), facts[:, fact])
                right[fact] += 0.1 * ((scores.argmax(-1) == facts[:, fact]).float().mean() - right[fact])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                self.note("see", step, loss=loss, **dict(zip(FACTS, right)))

    def _batches(self, steps: int, size: int, again: Sequence[int] = ()) -> Iterator[torch.Tensor]:
        """Numbers of images, each equally often, those of ``again`` more often."""
        order, pool = np.empty(0, dtype=int), np.array([*range(len(self.rows)), *again])
        for _ in range(steps):
            if len(order) < size:
                order = self.rng.permutation(pool)
            yield torch.from_numpy(order[:size])
            order = order[size:]

    # ---- 3. speak ------------------------------------------------------------------------------------------------

    def speak(self) -> None:
        """Teach all three formats on images, the tower frozen and its features computed once."""
        with torch.no_grad():
            self.features = torch.cat([self.tower(part) for part in torch.arange(len(self.rows)).split(256)])
        self.note("features", len(self.features))
        self._reseed(3)
        recipe = self.recipe
        merger = [*self.visual.merger.parameters()]
        others = [*self.language.parameters(), *self.model.lm_head.parameters(), *self.flags.parameters()]
        groups = [{"params": others, "lr": recipe.speak_rate}, {"params": merger, "lr": recipe.speak_rate / 2}]
        optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1, (step + 1) / 10) * max(0.05, 1 - step / recipe.speak_steps)
        )
        rare = [i for i, row in enumerate(self.rows) if row["n_facts"] == 4] * 2  # a twentieth of the questions
        for step, images in enumerate(self._batches(recipe.speak_steps, recipe.speak_batch, rare), 1):
            done = step / recipe.speak_steps
            share = recipe.borrowed_first + done * (recipe.borrowed_last - recipe.borrowed_first)
            loss, letters = self._speak_step(images, share)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*others, *merger], 1.0)
            optimiser.step()
            decay.step()
            self._one_embedding_per_word()
            if step % 20 == 0:
                self.note("speak", step, loss=loss, letters=letters)

    def _speak_step(self, images: torch.Tensor, borrowed_share: float) -> tuple[torch.Tensor, float]:
        rows = [self.rows[i] for i in images.tolist()]
        formats = [
            FORMATS[name] for name in self.rng.choice(list(FORMAT_SHARES), len(rows), p=[*FORMAT_SHARES.values()])
        ]
        borrowed = np.array([format.name == "think-before" for format in formats])
        borrowed &= self.rng.random(len(rows)) < borrowed_share
        ids, mask, weight, option_at, own = encode(
            self.tokenizer, rows, formats, borrowed, self.recipe.conclusion_weight
        )
        embeds = self.embed(ids)
        # Modalities take turns, so a multiple of their number away lies a picture of the same one.
        others = (images + len(MODALITIES) * self.rng.integers(1, 1000)) % len(self.rows)
        shown = torch.where(torch.from_numpy(borrowed), others, images)  # beside borrowed facts another picture
        merged = self.visual.merger(self.features[shown].flatten(0, 1))  # (images * 16, hidden)
        embeds = embeds.masked_scatter((ids == self.model.config.image_token_id)[..., None], merged)
        grid = torch.tensor([[1, 8, 8]])
        row = ids[mask.sum(1).argmax()][None]
        positions, _ = self.model.model.get_rope_index(
            row, mm_token_type_ids=(row == self.model.config.image_token_id).int(), image_grid_thw=grid
        )  # (3, 1, length); the image sits at the same place in every row
        hidden, flags = self._read(embeds, positions.expand(-1, len(ids), -1), mask, option_at)
        at = weight > 0
        logits, targets = self.model.lm_head(hidden[at]), ids.roll(-1, 1)[at]  # (targets, vocabulary), (targets,)
        loss = (F.cross_entropy(logits, targets, reduction="none") * weight[at]).sum() / weight.sum()
        letter = ids[at] == self.id("<answer>")
        right = (logits[letter].argmax(-1) == targets[letter]).float().mean().item()
        kept = ~torch.from_numpy(borrowed)
        return loss + F.cross_entropy(flags[kept].flatten(0, 1), own[kept].flatten()), right

    # ---- save ----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write weights in fp16, tokenizer, processor settings and the build log."""
        del self.visual.patch_embed.forward  # back to the stock convolution
        self.model.half().save_pretrained(folder)
        images = Qwen2VLImageProcessorPil(size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE})
        make = image_processor_only(Qwen2VLProcessor)
        make(images, self.tokenizer, chat_template=self.tokenizer.chat_template).save_pretrained(folder)
        log = {"recipe": asdict(self.recipe), "parameters": self.model.num_parameters(), "log": self.log}
        (folder / "build_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Build the model with the shipped recipe, or with flags that change it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TINY)
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    torch.set_num_threads(1)
    builder = Builder(Recipe(**arguments))
    print(f"{builder.model.num_parameters():,} parameters, {len(builder.tokenizer)} tokens")
    builder.bind()
    builder.load_images()
    builder.see()
    builder.speak()
    builder.save(output)


if __name__ == "__main__":
    main()
