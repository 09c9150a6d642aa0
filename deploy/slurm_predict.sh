#!/bin/bash
# Calling the reads of one file on many GPUs, a shard each, and joining the shards:
#
#   job=$(sbatch --parsable deploy/slurm_predict.sh calls.csv --input reads.fastq.gz --ckpt /shared/outputs/bacteria)
#   sbatch --dependency=afterok:"$job" --wrap "mgc merge --output calls.csv"
#
# The first word is the output, the others are those of "mgc predict". Shards that failed are run again alone, here the
# third and the fifth of eight, and joined as above:
#
#   SHARDS=8 sbatch --array=3,5 deploy/slurm_predict.sh calls.csv --input reads.fastq.gz --ckpt /shared/outputs/bacteria
#SBATCH --job-name=mgc-predict
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=12:00:00

set -euo pipefail

output=${1:?"the output, and then the words of mgc predict"}
shift

mgc predict --shard "$SLURM_ARRAY_TASK_ID/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}" --output "$output" "$@"
