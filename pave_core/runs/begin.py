"""The beginning of a run: everything that can be refused is refused here, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from ..batches import UNLIMITED, explained, nothing
from ..config.presets import not_default
from ..errors import ConfigError, PaveError, quoted
from ..evaluation.drift import DriftProbe
from ..evaluation.evaluate import evaluate
from ..evaluation.reward_check import check_reward
from ..files import remove_parts
from ..memory.pace import Duration, Pace, in_time, pace_of
from ..memory.report import Preflight
from ..policies.adapter import layer_of
from ..policies.lora_file import preview_file
from ..rollout.prompts import encode_all
from ..rollout.run_batches import UPDATE_REMEDY, RunBatches
from ..scoring.mix import RewardMix, require_spread
from ..training.processes import ALONE, Processes
from ..training.state import Checkpoint, TrainState
from ..training.steering import Steering
from ..types import Cond, Decoder, RunPolicy
from .folder import Places, RunFolder
from .follower import Nowhere, told_checkpoint, told_readings
from .keeper import Keeper, write_waiting
from .log import Everyone, LogLines, MetricsFile, Reporter, TensorBoard
from .measurements import Measurements
from .recipe import check_recipe, recipe_of, steered_in
from .run import Run
from .settings import NO_RESUME, Task
from .watch import Watch


def begin(
    policy: RunPolicy,
    decoder: Decoder,
    *,
    task: Task,
    places: Places,
    reporters: Sequence[Reporter] = (),
    free: Callable[[], None] = nothing,
    preflight: Callable[[Cond], Preflight] | None = None,
    processes: Processes = ALONE,
    steering: Steering | None = None,
) -> Run:
    """Make a run of `task`, or go on with the one that its settings resume.

    The base model is measured on the held-out prompts, and the reward is checked if the task says so. `reporters` are
    told of the run's events, as are its files and the log. free: frees the caches of the device (see batches.py).
    preflight: called once with the conditioning of the longest prompt, before the first gradient; its line is logged,
    and the update begins with as many branch steps at once as it found to fit; None: with all. How long the run will
    take is reported before its first step, of one process. processes: those that make the run together, each by a call
    of its own: the first alone reports and writes. steering: orders to the run; the policy calls its check() before
    each call of a network. ConfigError for what cannot work; then, and after Cancel, a new run leaves nothing behind,
    and a resumed one is as it was.
    """
    log = Everyone([LogLines(), *reporters] if processes.leads else [])
    warn = partial(log.message, warning=True)
    name = task.settings.resume
    if not processes.leads:
        folder = Nowhere()
    elif name == NO_RESUME:
        write_waiting(warn)
        folder = RunFolder.new(places.runs, task.settings.name, warn, lambda run: places.lora(run).exists())
    else:
        write_waiting(warn)
        folder = RunFolder.existing(places.runs, name, warn)
        for file in (places.lora(name), preview_file(places.lora(name))):
            remove_parts(places.loras, file.name)
    if isinstance(folder, RunFolder):
        log.begun(folder.name)
    try:
        return _begin(
            policy,
            decoder,
            task=task,
            places=places,
            folder=folder,
            log=log,
            free=free,
            preflight=preflight,
            processes=processes,
            steering=steering or Steering(),
        )
    except BaseException as error:
        if not isinstance(error, PaveError):
            rest = "there is nothing to keep" if name == NO_RESUME else f"{name!r} is as it was"
            warn(f"ended before its first step: {rest}")
            log.ended(f"ended before its first step: {rest}", early=True)
        folder.discard()
        log.close()
        raise


def _begin(
    policy: RunPolicy,
    decoder: Decoder,
    *,
    task: Task,
    places: Places,
    folder: RunFolder | Nowhere,
    log: Reporter,
    free: Callable[[], None],
    preflight: Callable[[Cond], Preflight] | None,
    processes: Processes,
    steering: Steering,
) -> Run:
    started = steering.clock()
    update_batch = UNLIMITED
    log.progress("loading the model", 0, 0)
    with policy:
        log.progress("reading the model's weights", 0, 0)
        base = policy.fingerprint()
        checkpoint = None
        if isinstance(folder, RunFolder):
            checkpoint = _checkpoint(policy, task, folder=folder, base=base, log=log)
        checkpoint = told_checkpoint(processes, checkpoint)
        policy.sigmas(task.config.rollout.steps)  # a schedule that cannot work is refused here
        for remark in policy.remarks():
            log.message(remark, warning=True)
        conds = encode_all(policy, dict.fromkeys((*task.prompts.train, *task.prompts.held_out)), log.progress)
        log.progress("measuring what a step needs", 0, 0)
        longest = conds[max(task.prompts.train, key=len)]
        found = None if preflight is None else preflight(longest)
        if found is not None:
            log.message(found.line)
            update_batch = found.needs.update_batch
        if processes.several:
            pace = None  # it would be that of a step which one of them makes alone
        else:
            pace = pace_of(policy, longest, task.config) if found is None else found.needs.pace
        done = 0 if checkpoint is None else checkpoint.step
        duration = _duration(task, pace, done)
        if duration is not None:
            log.expected(duration)
        batches = RunBatches.of(task.config.rollout, task.config.memory, free, update=update_batch)
        with explained("the check of the gradient", UPDATE_REMEDY):
            _choose_layers(policy, conds[task.prompts.train[0]], checkpoint=checkpoint, task=task, log=log)
        state = TrainState.begin(policy, task.config)
        fresh = state.capture({})
        if checkpoint is not None:
            state.restore(checkpoint)
        training = {prompt: conds[prompt] for prompt in task.prompts.train}
        measurements = watch = None
        if task.reward is not None and task.reward.asks and processes.several:
            raise ConfigError(
                f"reward: {quoted(task.reward.name)} asks a person, whom each of several processes would ask about its "
                "own images: train in one, or by a taste that was saved"
            )
        if task.reward is not None:
            if task.settings.check_reward and checkpoint is None:
                unasked = task.reward.unasked
                if unasked is None:
                    log.message("the reward is a person, who is asked in training alone: it is not checked")
                else:
                    _check(unasked, policy, decoder, conds=training, task=task, batches=batches, log=log)
            evaluated = {prompt: conds[prompt] for prompt in task.prompts.evaluated}
            measurements, watch = _measure(
                policy,
                decoder,
                task.reward,
                task=task,
                conds=evaluated,
                batches=batches,
                fresh=fresh,
                log=log,
                processes=processes,
                pace=pace,
            )
            duration = _duration(task, pace, done, measurements)
            if duration is not None:
                log.expected(duration)
    history = []
    if checkpoint is not None:
        history = folder.history(checkpoint.step)
        if watch is not None:
            watch.resume(*told_readings(processes, folder, checkpoint.step), newest=checkpoint)
    train, held_out = len(task.prompts.train), len(task.prompts.held_out)
    log.message(f"settings that are not the defaults: {not_default(task.config)}")
    log.message(f"{train} prompts to train on, {held_out} held out, run folder {folder.path}")
    if duration is not None:
        log.message(duration.line)
    if isinstance(folder, RunFolder):
        reporters = [MetricsFile(folder.metrics, history), TensorBoard(folder.path, state.step), log]
        keeper = Keeper(folder, places, resumed=checkpoint and checkpoint.step)
    else:
        reporters, keeper = [], folder
    run = Run(
        policy=policy,
        decoder=decoder,
        task=task,
        base=base,
        conds=training,
        state=state,
        batches=batches,
        folder=folder,
        keeper=keeper,
        history=history,
        measurements=measurements,
        watch=watch,
        reporter=Everyone(reporters),
        started=started,
        steering=steering,
        steered=[] if checkpoint is None else steered_in(checkpoint.recipe),
        kept=-1 if checkpoint is None else checkpoint.step,
    )
    if checkpoint is not None:
        run.catch_up()
    return run


def _checkpoint(policy: RunPolicy, task: Task, *, folder: RunFolder, base: str, log: Reporter) -> Checkpoint | None:
    """The checkpoint of the run that the settings resume; None for a new run."""
    if task.settings.resume == NO_RESUME:
        return None
    checkpoint = folder.load_checkpoint()
    saved = str(checkpoint.recipe.get("model"))
    check_recipe(checkpoint.recipe, recipe_of(policy, task, saved if policy.is_base(saved) else base))
    whole = task.settings.iterations
    if whole is not None and checkpoint.step >= whole:
        log.message(f"{folder.name!r} has done {checkpoint.step} of {whole} steps: it is only measured and finished")
    return checkpoint


def _duration(task: Task, pace: Pace | None, done: int, measurements: Measurements | None = None) -> Duration | None:
    """What is left of `task` after `done` steps; None where nothing is left, or nothing known of it.

    measurements: those of the base model, which say how long it takes to measure, decode and score; None: they are
    still to be made.
    """
    settings, whole = task.settings, task.settings.iterations
    if pace is None or (whole is not None and done >= whole):
        return None
    if measurements is not None:
        of = measurements.before.seconds
        images = len(measurements.before.prompts)
        pace = pace.of_images(decode=of["decode"] / images, reward=of["reward"] / images)
        measurement = sum(of.values())
    else:
        measurement = pace.measurement(len(task.prompts.evaluated) * len(settings.seeds))
    if task.reward is None:
        return Duration(pace.step, whole, done)
    every = (settings.evaluate_every, 0 if settings.guard is None else settings.guard.config.every)
    return Duration(pace.step, whole, done, measurement, every, unmeasured=measurements is None, asks=task.reward.asks)


def _choose_layers(policy: RunPolicy, cond: Cond, *, checkpoint: Checkpoint | None, task: Task, log: Reporter) -> None:
    """Leave layers that get no gradient out of the adapter; a resumed run keeps the layers that it began with."""
    idle: Collection[str] = ()
    if task.settings.check_gradient:
        log.progress("checking the gradient", 0, 0)
        check = policy.check_gradient(cond)
        log.message(check.text)
        idle = check.idle
    if checkpoint is not None:
        idle = {layer_of(name) for name in policy.parameters().keys() - checkpoint.adapter.keys()}
    policy.leave_out(idle)


def _check(
    reward: RewardMix,
    policy: RunPolicy,
    decoder: Decoder,
    *,
    conds: Mapping[str, Cond],
    task: Task,
    batches: RunBatches,
    log: Reporter,
) -> None:
    """ConfigError where the reward cannot tell the images of the untrained policy apart."""
    check = check_reward(
        policy, decoder, reward=reward, conds=conds, config=task.config, batches=batches, progress=log.progress
    )
    log.message(f"reward check\n{check.text()}")
    if check.problem:
        raise ConfigError(
            f"reward: it cannot tell your images apart: {check.problem}; look at them with Pave Check Reward, or "
            "switch check_reward off"
        )


def _measure(
    policy: RunPolicy,
    decoder: Decoder,
    reward: RewardMix,
    *,
    task: Task,
    conds: Mapping[str, Cond],
    batches: RunBatches,
    fresh: Checkpoint,
    log: Reporter,
    processes: Processes,
    pace: Pace | None,
) -> tuple[Measurements, Watch | None]:
    """Evaluate the base model: the run's measurements, so far only this one, and its watch if it has a guard.

    ConfigError if the reward cannot tell the base model's images apart, unless it asks a person, or if the guard could
    never raise an alarm.
    """
    guard, rollout = task.settings.guard, task.config.rollout
    prompts, seeds = len(conds), len(task.settings.seeds)
    takes = "" if pace is None else f": at least {in_time(pace.measurement(prompts * seeds))} each time"
    log.message(
        f"measuring {prompts} prompts x {seeds} seeds = {prompts * seeds} images, here and after the last step{takes}"
    )
    measure = partial(
        evaluate,
        policy,
        decoder,
        reward=reward,
        judge=task.judge,
        held_out=None if guard is None else guard.watched(reward, task.judge),
        conds=conds,
        seeds=task.settings.seeds,
        config=rollout,
        batches=batches,
        progress=log.progress,
        processes=processes,
    )
    watch = None
    with policy.reference():
        before = measure()
        if guard is not None:
            log.progress("preparing the guard", 0, 0)
            probe = DriftProbe(policy, conds, rollout, processes)
            watch = Watch(guard.config, before, probe=probe, fresh=fresh)
    if not reward.asks:
        require_spread(before.scores)
    return Measurements(before, measure, again=lambda evaluation: evaluation.scored_again(reward)), watch
