"""Unknown keys and what was probably meant: a typo, another framework's name, or a key of another section."""

from collections.abc import Collection

from dlkit.config.fields import annotation_at, is_component, section_at, sections_by_key
from dlkit.config.source_locations import KeyPath, dotted
from dlkit.suggestions import closest, did_you_mean

# what other frameworks, and people, call our keys
_OTHER_NAMES = {
    "schedule": "scheduler lr_scheduler lr_schedule learning_rate_scheduler sched",
    "data": "dataset datasets dataloader train_data dataset_name",
    "model": "net network arch architecture backbone",
    "loss": "criterion loss_fn loss_function objective",
    "optimizer": "optim opt optimiser",
    "train": "trainer training fit",
    "log": "logger logging wandb",
    "eval": "evaluation evaluate validation test_cfg",
    "checkpoint": "checkpoints checkpointing saving save ckpt",
    "runtime": "environment system hardware machine",
    "seed": "random_seed manual_seed rng_seed",
    "extends": "include includes inherit inherits base bases _base_ defaults",
    "data.path": "data_dir data_root data_path dataset_dir folder directory",
    "data.root": "data_dir data_root data_path dataset_dir",
    "data.val": "val_split validation_split valid_split val_size val_fraction valid",
    "data.test": "test_split test_size test_fraction",
    "data.limit": "max_samples num_samples subset limit_train_batches",
    "data.batch_size": "batch batchsize bs train_batch_size per_device_train_batch_size samples_per_gpu",
    "data.eval_batch_size": "val_batch_size test_batch_size per_device_eval_batch_size",
    "data.num_workers": "workers n_workers nworkers dataloader_num_workers workers_per_gpu",
    "data.image_size": "img_size imgsz image_shape input_size",
    "data.normalize": "normalization normalisation normalise mean_std",
    "data.transforms": "transform train_transforms train_transform augment augmentation augmentations",
    "data.eval_transforms": "val_transforms val_transform test_transforms test_transform eval_transform",
    "data.batch_transforms": "batch_transform batch_augment mixup_fn",
    "model.weights": "pretrained checkpoint_path state_dict weights_path",
    "model.num_classes": "classes n_classes nclasses num_labels out_features",
    "model.in_channels": "in_chans channels input_channels num_channels",
    "loss.class_weights": "weights class_weight weight",
    "loss.label_smoothing": "smoothing label_smooth",
    "optimizer.lr": "learning_rate base_lr lr0 init_lr peak_lr",
    "optimizer.weight_decay": "wd l2 decay",
    "optimizer.groups": "param_groups parameter_groups paramwise_cfg",
    "schedule.warmup": "warmup_epochs warmup_steps warmup_iters warmup_ratio warm_up lr_warmup_epochs",
    "schedule.warmup_from": "warmup_factor warmup_lr warmup_start_factor",
    "train.epochs": "epoch num_epochs max_epochs n_epochs num_train_epochs max_epoch",
    "train.max_steps": "steps num_steps iterations max_iters total_steps",
    "train.accumulate": "accumulation accumulate_grad_batches gradient_accumulation gradient_accumulation_steps "
    "grad_accum accum_steps",
    "train.clip": "grad_clip gradient_clip gradient_clipping gradient_clip_val clip_grad clip_grad_norm max_grad_norm "
    "max_norm clip_norm",
    "train.amp": "mixed_precision precision use_amp fp16 bf16 half",
    "train.compile": "torch_compile torchcompile",
    "train.gradient_checkpointing": "activation_checkpointing grad_checkpointing checkpoint_activations",
    "train.early_stop": "early_stopping earlystopping",
    "train.max_time": "time_limit max_duration",
    "train.early_stop.metric": "monitor",
    "train.early_stop.min_delta": "delta",
    "ema": "model_ema ema_decay swa averaging",
    "eval.every": "val_every eval_every validation_interval val_interval check_val_every_n_epoch",
    "eval.tta": "test_time_augmentation",
    "checkpoint.metric": "monitor save_best_metric best_metric",
    "checkpoint.every_epochs": "save_every save_interval every_n_epochs",
    "checkpoint.every_steps": "save_steps every_n_train_steps",
    "log.every": "log_every log_interval log_every_n_steps print_freq",
    "log.tensorboard": "tb use_tensorboard",
    "runtime.device": "gpu gpus devices accelerator cuda",
    "runtime.threads": "num_threads cpu_threads",
    "runtime.deterministic": "cudnn_deterministic",
    "runtime.out": "output output_dir out_dir outdir save_dir log_dir logdir project work_dir",
}
# options of components that people look for elsewhere, by the section of the component
_COMPONENT_OPTIONS = {
    "optimizer": ("weight_decay", "momentum", "betas", "nesterov"),
    "schedule": ("step_size", "gamma", "milestones", "eta_min"),
    "loss": ("label_smoothing",),
}
_MOST_LISTED = 16
# what dlkit does by itself, where other libraries want to be told
_DONE_BY_DLKIT = {
    "data.train": "the training and the test samples of a data set are both taken; data.val and data.test say what is held out",
    "optimizer.params": "the parameters are those of the network; optimizer.groups says which are treated otherwise",
    "schedule.optimizer": "the optimizer is that of the config",
    "schedule.last_epoch": "--resume goes on where a run stopped",
}
_DONE_BY_DLKIT["data.split"] = _DONE_BY_DLKIT["data.train"]
OTHER_NAMES_OF_NAME = {"type", "class", "class_path", "_target_", "_component_", "cls", "kind", "target"}
_NESTING_KEYS = {"args", "kwargs", "init_args", "params", "options", "dict_kwargs"}


def _keys_by_other_name() -> dict[str, list[KeyPath]]:
    found: dict[str, list[KeyPath]] = {}
    for key, names in _OTHER_NAMES.items():
        for name in names.split():
            found.setdefault(name, []).append(tuple(key.split(".")))
    for section, options in _COMPONENT_OPTIONS.items():
        for option in options:
            found.setdefault(option, []).append((section, option))
    return found


_BY_OTHER_NAME = _keys_by_other_name()


def explain_unknown_key(path: KeyPath, options: Collection[str] = (), *, owner: str = "") -> str:
    """The message about an unknown key at a path, with what was probably meant.

    `options` are the own options of a component, which are known beside the section's keys; `owner` is its title.
    """
    section = section_at(path[:-1])
    in_component = section is not None and is_component(section)
    keys = section.model_fields if section else ()
    known = [*options, *(key for key in keys if not in_component or key != "name")]
    start = f"unknown key for {owner}" if owner else "unknown key"
    return start + _hint(path, known, in_component=in_component)


def keys_named(word: str) -> list[str]:
    """The dotted keys that a word may mean by itself, as one of ours or by another name; for typos the nearest."""
    word = word.casefold().replace("-", "_")
    if "." in word:
        return [word] if annotation_at(tuple(word.split("."))) is not None else []
    if found := _elsewhere(word, _BY_OTHER_NAME.get(word, [])):
        return [dotted(path) for path in found]
    far = closest(word, sections_by_key(), most=1) if len(word) > 2 else []
    return [dotted((*section, far[0])) for section in sections_by_key()[far[0]][:1]] if far else []


def _hint(path: KeyPath, known: Collection[str], *, in_component: bool) -> str:
    parent, key = path[:-1], str(path[-1])
    word = key.casefold().replace("-", "_")
    if word == "extends":
        return "; files are extended at the top of a config file, and nowhere else"
    if own := _DONE_BY_DLKIT.get(dotted((*parent, word))):
        return f"; {own}"
    if in_component and word in OTHER_NAMES_OF_NAME:
        return ". Did you mean 'name'?"
    if in_component and word in _NESTING_KEYS:
        return "; options stand beside the name: {name: ..., option: value}"
    meant = [target for target in _BY_OTHER_NAME.get(word, ()) if target != path]
    if here := [target[-1] for target in meant if target[:-1] == parent and target[-1] in known]:
        return f". Did you mean {here[0]!r}?"
    near = closest(key, known)
    elsewhere = _elsewhere(word, meant)
    if elsewhere:
        also = f" Or did you mean {near[0]!r}?" if near else ""
        return f". {_belongs_text(elsewhere)}{also}"
    if near:
        return f".{did_you_mean(key, known)}"
    if not parent and (far := closest(key, sections_by_key(), most=1)):
        return f". Did you mean {_quoted((*sections_by_key()[far[0]][0], far[0]))}?"
    return f"; known here: {', '.join([*known][:_MOST_LISTED])}" + (", ..." if len(known) > _MOST_LISTED else "")


def _elsewhere(word: str, meant: list[KeyPath]) -> list[KeyPath]:
    """The paths of this key, or of the keys it is another name for; parameter groups count only if nothing else does."""
    same = [(*section, word) for section in sections_by_key().get(word, ())]
    found = list(dict.fromkeys(same + meant))
    return [path for path in found if path[:2] != ("optimizer", "groups")][:3] or found


def _belongs_text(targets: Collection[KeyPath]) -> str:
    first = next(iter(targets))
    if len(targets) > 1:
        return "It belongs elsewhere: " + " or ".join(map(_quoted, targets))
    if len(first) == 1:
        return f"It belongs to the top of the config: {_quoted(first)}"
    return f"It belongs to {dotted(first[:-1])}: {_quoted(first)}"


def _quoted(path: KeyPath) -> str:
    return f"`{dotted(path)}`"
