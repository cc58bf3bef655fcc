#!/bin/bash
# Train a recipe on all GPUs of one machine, or of several, under torchrun.
#
#   docs/clusters/torchrun.sh recipe.json                         one machine
#   NODES=2 NODE=0 HEAD=10.0.0.1 docs/clusters/torchrun.sh recipe.json     on the first of two machines
#   NODES=2 NODE=1 HEAD=10.0.0.1 docs/clusters/torchrun.sh recipe.json     on the second, with the same recipe
#
# PROCESSES: how many on this machine (default: its GPUs; set it, and pass --cpu, where there are none).
# What follows the recipe goes to tools/train.py: --comfyui PATH, --output FOLDER, --resume RUN, --cpu.
# Ctrl-C and SIGTERM save. To go on, with any number of processes that divides the work: --resume and the run's name.
set -euo pipefail
cd "$(dirname "$0")/../.."

nodes=${NODES:-1} node=${NODE:-0} head=${HEAD:-127.0.0.1} port=${PORT:-29500}
processes=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "$nodes" --node-rank "$node" --master-addr "$head" --master-port "$port" \
    --nproc-per-node "$processes" \
    tools/train.py "$@"
