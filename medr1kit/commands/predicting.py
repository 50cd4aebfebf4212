"""The command ``predict``, and how scores are printed."""

from __future__ import annotations

from medr1kit.commands.loading import format_for, has_splits, hold_out, load_data, load_model_of, refuse_unused


def predict(argv: list[str]) -> None:
    """Answer a data set's questions, write the predictions and print accuracy by modality and task."""
    from trl import ModelConfig

    from medr1kit.commands.flags import DataFlags, PredictFlags, fit_to_machine, parse_flags
    from medr1kit.models.load import choose_device
    from medr1kit.models.predict import predict

    flags = parse_flags(argv, "medr1kit predict", DataFlags, PredictFlags, ModelConfig)
    flags = fit_to_machine(flags, choose_device().value)
    refuse_unused(flags, ("reward_funcs", "preset", "overwrite", "use_peft", "lora_r", "lora_alpha", "lora_dropout"))
    model, processor = load_model_of(flags)
    format = format_for(model, flags)
    held_out = flags.get("test_size", 0.0) > 0
    split = flags.get("dataset_train_split" if held_out else "dataset_test_split")
    if split is None and not held_out and has_splits(flags["dataset_name"]):
        split = "test"
    dataset = load_data(flags, split)
    if held_out:
        _, dataset = hold_out(dataset, flags)
    chosen = {name: flags[name] for name in PredictFlags.__dataclass_fields__ if name in flags}
    preds = predict(model, processor, dataset, format=format, **chosen)
    print_scores(preds)


def print_scores(preds) -> None:
    from medr1kit.results.tables import score

    for by in ("modality", "task"):
        print("\n" + score(preds, by=by).round(3).to_string(index=False))
