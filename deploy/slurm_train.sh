#!/bin/bash
# Training on the GPUs of several nodes:
#
#   sbatch deploy/slurm_train.sh /shared/outputs/bacteria --config run.yaml --train-fasta /shared/reads/train.fa ...
#
# The first word is the run's folder, the others are those of "mgc train". Folder, reads and encoder
# must be on disks that all nodes see; caches (HF_HOME, MGC_CACHE) may be. Submitted again with the same words, or requeued, the job goes on from what was
# saved last; training.checkpoint.every_steps says how often that is. Activate your environment first, or here.
#SBATCH --job-name=mgc-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

output=${1:?"the run's folder, and then the words of mgc train"}
shift

resume=()
if [[ -f $output/config.yaml ]]; then
    resume=(--resume)
fi

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# One torchrun a node, which starts a rank for each GPU. They meet at the first node.
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first_node:${MGC_PORT:-29500}" \
    --module metagene_classifier train --output-dir "$output" ${resume[@]+"${resume[@]}"} "$@"
