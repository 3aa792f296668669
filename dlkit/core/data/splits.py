"""From a subset of the data to a split that makes batches."""

from dataclasses import dataclass

import torch

from dlkit.config import Config, GrowingSize, LoadedConfig, Mixing
from dlkit.config import Data as DataSection
from dlkit.core.components import at_component, check_options, resolve
from dlkit.core.data.batching import BatchPlan, Finish, SharedBatches, SharedTurns
from dlkit.core.data.caching import MemorySplit, StoredSamples
from dlkit.core.data.checks import TargetForm, ignored_label
from dlkit.core.data.contract import DataInfo, Kind, Split
from dlkit.core.data.loader import LoaderOptions, LoaderSplit, SampleReader
from dlkit.core.data.mixing import Mixer, MixingPlan
from dlkit.core.data.sampling import DrawnSamples
from dlkit.core.data.size_plan import SizePlan
from dlkit.core.data.subsets import Subset
from dlkit.core.data.time_limit import limit_of
from dlkit.core.data.transforms import Pipeline
from dlkit.core.devices import num_cores
from dlkit.core.distributed import ALONE, World
from dlkit.registry import INJECTED


@dataclass(frozen=True)
class SplitBuilder:
    """What all splits of a run share."""

    section: DataSection
    info: DataInfo
    device: torch.device
    seed: int
    world: World = ALONE
    ignored_label: int | None = None

    def build_ordered(self, subset: Subset, pipeline: Pipeline, stored: StoredSamples | None) -> Split:
        """Returns the split of a subset for evaluation: in order, nothing dropped, nothing mixed."""
        plan = SharedTurns(
            len(subset.rows),
            pick_eval_batch_size(self.section),
            self.seed,
            rank=self.world.rank,
            num_ranks=self.world.size,
            is_filled=self.world.lockstep,
        )
        return self.build(subset, pipeline, stored, plan=plan)

    def build(
        self,
        subset: Subset,
        pipeline: Pipeline,
        stored: StoredSamples | None,
        *,
        plan: BatchPlan,
        mixing: MixingPlan | None = None,
        sizes: SizePlan | None = None,
    ) -> Split:
        """Returns the split of a subset, which reads from memory if the samples are stored there, else by a loader."""
        finish = Finish(self.info, self.device, self.seed, mixing, sizes)
        if stored is not None:
            rest = Pipeline(pipeline.steps[len(stored.steps) :])
            return MemorySplit(
                *(subset.name, stored.inputs, stored.rows, subset.targets, plan, rest, finish, len(stored.steps)),
                names=subset.name_of,
                numbers=subset.rows,
            )
        form = TargetForm(self.info.task, self.info.num_outputs, self.ignored_label)
        options = pick_loader_options(self.section, self.device, self.world.local_size)
        reader = SampleReader(subset.samples, subset.rows, pipeline, self.seed, form, options.timeout_s)
        return LoaderSplit(subset.name, reader, subset.targets, plan, finish, options)


def plan_training(
    section: DataSection, num_samples: int, *, seed: int, world: World = ALONE, sampling: DrawnSamples | None = None
) -> SharedBatches:
    """Returns which samples make up the batches of training, and which part of each is this process's."""
    return SharedBatches(
        num_samples,
        section.batch_size * world.size,
        seed,
        shuffle=section.shuffle,
        drop_last="single" if section.drop_last == "auto" else section.drop_last,
        sampling=sampling,
        repeats=section.repeats,
        rank=world.rank,
        num_ranks=world.size,
    )


def pick_eval_batch_size(section: DataSection) -> int:
    """Returns the samples of an evaluation batch; `auto` is filled."""
    size = section.eval_batch_size
    return min(4 * section.batch_size, 512) if size == "auto" else size


def pick_loader_options(section: DataSection, device: torch.device, num_sharing: int = 1) -> LoaderOptions:
    """Returns DataLoader options with `auto` filled for this machine, whose cores `num_sharing` processes share."""
    workers = min(8, max(0, num_cores() // num_sharing - 1)) if section.num_workers == "auto" else section.num_workers
    return LoaderOptions(
        num_workers=workers,
        pin_memory=device.type == "cuda" if section.pin_memory == "auto" else section.pin_memory,
        persistent_workers=workers > 0 if section.persistent_workers == "auto" else section.persistent_workers,
        prefetch_factor=section.prefetch_factor,
        timeout_s=limit_of(section),
    )


def idle_options(section: DataSection, *, in_memory: bool) -> list[str]:
    """Returns a sentence for each loader option that was set but has no effect."""
    if not in_memory:
        return []
    names = [name for name in ("num_workers", "prefetch_factor") if getattr(section, name) not in ("auto", None, 0)]
    return [f"data.{name} has no effect: the samples are in memory" for name in names]


def planned_epochs(config: Config, num_batches: int) -> int:
    """Returns the epochs that a run has, the last perhaps cut short, with so many micro-batches to an epoch."""
    most = config.train.max_steps
    if most is None:
        return config.train.epochs
    return min(config.train.epochs, -(-most // -(-num_batches // config.train.accumulate)))


def plan_sizes(loaded: LoadedConfig, num_batches: int) -> SizePlan | None:
    """Returns how training images grow, None where they do not."""
    size = loaded.config.data.image_size
    if not isinstance(size, GrowingSize):
        return None
    return SizePlan(getattr(size, "from"), size.to, planned_epochs(loaded.config, num_batches))


def plan_mixing(loaded: LoadedConfig, kind: Kind, num_batches: int, *, has_masks: bool = False) -> MixingPlan | None:
    """Returns how batches are mixed, None where they are not. Raises ConfigError at the place of a mixer in the file."""
    if has_masks and loaded.config.data.batch_transforms:
        raise loaded.error(
            ("data", "batch_transforms"), "these blend labels, and a mask has none to blend; leave them out"
        )
    mixers, section = build_mixers(loaded, kind), loaded.config.data.mixing or Mixing()
    if not mixers:
        return None
    end = planned_epochs(loaded.config, num_batches) - section.off_last_epochs if section.off_last_epochs else None
    return MixingPlan(mixers, section.p, section.switch, end)


def mixing_notes(plan: MixingPlan | None) -> list[str]:
    """Returns a sentence where the last epochs, which are not mixed, are all."""
    is_off = plan is not None and plan.end is not None and plan.end <= 0
    return ["no batch is mixed: data.mixing.off_last_epochs are all epochs of this run"] if is_off else []


def repeat_notes(config: Config, plan: BatchPlan, *, is_augmented: bool) -> list[str]:
    """Returns a sentence where copies of a sample are all the same, and one where the run ends before it saw every sample."""
    repeats, epochs = plan.repeats, planned_epochs(config, plan.num_batches)
    same = f"data.repeats: the {repeats} copies of a sample are equal, since no transform is random"
    unseen = (
        f"data.repeats: every sample comes in {repeats} epochs; this run has {epochs}, and trains on some samples only"
    )
    return [*([same] if repeats > 1 and not is_augmented else []), *([unseen] if repeats > epochs else [])]


def build_mixers(loaded: LoadedConfig, kind: Kind) -> tuple[Mixer, ...]:
    """Returns the transforms of `data.batch_transforms`, for data of this kind. Raises ConfigError at their place in the file."""
    mixers = []
    if loaded.config.data.batch_transforms and ignored_label(loaded) is not None:
        raise loaded.error(
            ("data", "batch_transforms"), "these blend labels, which loss.ignore_index leaves out; use one of both"
        )
    for number, component in enumerate(loaded.config.data.batch_transforms):
        place = ("data", "batch_transforms", number)
        with at_component(loaded, *place):
            builder = resolve("batch_transforms", component.name)
            check_options(builder, component.options, injected=INJECTED["batch_transforms"])
        try:
            mixer: Mixer = builder(**component.options)
        except (TypeError, ValueError) as error:
            raise loaded.error(place, f"{component.name}: {error}") from None
        if getattr(mixer, "needs_images", False) and kind != "image":
            raise loaded.error((*place, "name"), f"{component.name} works on images; the data are {kind}")
        mixers.append(mixer)
    return tuple(mixers)
