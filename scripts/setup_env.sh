# Source this in bash or zsh before you work:  source scripts/setup_env.sh
#
# Sets where the Hugging Face cache is, how torch's CUDA allocator behaves and whether tokenizers use threads (a value
# that you have set already is kept), and activates the checkout's virtual environment where there is one.

if [ -n "${ZSH_VERSION:-}" ]; then
    # bash cannot parse zsh's expansion for the sourced file's name, hence eval.
    eval '_mgc_script=${(%):-%x}'
    case "${ZSH_EVAL_CONTEXT:-}" in *:file*) _mgc_sourced=yes ;; *) _mgc_sourced= ;; esac
else
    _mgc_script=${BASH_SOURCE:-$0}
    if [ "$_mgc_script" != "$0" ]; then _mgc_sourced=yes; else _mgc_sourced=; fi
fi

if [ -z "$_mgc_sourced" ]; then
    echo "This sets variables in your shell, so it has to be sourced:  source $_mgc_script" >&2
    exit 1
fi

_mgc_root=$(CDPATH= cd -- "$(dirname -- "$_mgc_script")/.." && pwd)

export HF_HOME="${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-true}"
# Segments that grow keep the card's memory whole where the sizes of batches vary. torch reads either name.
if [ -z "${PYTORCH_ALLOC_CONF:-}" ]; then
    export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
fi

if [ -f "$_mgc_root/.venv/bin/activate" ]; then
    . "$_mgc_root/.venv/bin/activate"
    _mgc_environment=$_mgc_root/.venv
else
    _mgc_environment="none ('make install' makes one)"
fi

echo "HF_HOME=$HF_HOME"
echo "PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-(left to PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-})}"
echo "TOKENIZERS_PARALLELISM=$TOKENIZERS_PARALLELISM"
echo "virtual environment: $_mgc_environment"

unset _mgc_script _mgc_sourced _mgc_root _mgc_environment
