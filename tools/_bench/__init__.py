"""The parts of tools/bench.py. ComfyUI is in the same process; learning has several such processes.

subject, settings       what is measured: models, reward, prompts; and a TrainConfig from names and values
watch, floor, speed     seconds of a training step by phase, beside those of the network alone
ranks                   whether cheaper tails rank images as full ones do
alignment               whether finer steps teach anything else than plain ones
person, simulated       what the clicks of a simulated person teach
scaling                 how both grow with G, T, S, |K| and the size of the image
experiments, learning, jobs, campaign     what is compared, one run of it, and many of them at once
statistics, results, evidence     means with intervals, and what the records of the runs say
report, markdown, plots           tables in docs/BENCHMARKS.md, and pictures
commands, machine, targets        what the commands do, where, and what ratios must keep to
"""
