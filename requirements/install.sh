#!/usr/bin/env bash
# Makes an environment of the locks, of files that have a hash that they name: install.sh PYTHON FOLDER [TORCH].
# TORCH is the build of torch: cpu, cuda, or gpu, the environment in which figures on GPUs were measured, which builds
# extensions and needs nvcc of CUDA 13. One that is not said is cpu where pip finds that build, else cuda.
set -euo pipefail
python=$1 folder=$2 torch=${3:-}
locks=$(dirname -- "${BASH_SOURCE[0]}")

install() { # BIN ARGUMENT...
    "$1/python" -m pip install -qq --no-deps --require-hashes "${@:2}"
}

if [ -n "$torch" ] && [ ! -f "$locks/torch-$torch.txt" ]; then
    echo "There is no build of torch called '$torch': say TORCH=cpu, TORCH=cuda or TORCH=gpu." >&2
    exit 2
fi
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
if [ "$torch" = gpu ] && [ ! -x "$CUDA_HOME/bin/nvcc" ]; then
    echo "TORCH=gpu compiles extensions with CUDA 13's nvcc, and there is none in '$CUDA_HOME': set CUDA_HOME." >&2
    exit 2
fi
"$python" -m venv --clear "$folder"
if [ -z "$torch" ]; then
    torch=cpu
    # A file of another hash ends the set-up: only that there is none lets the other build in.
    if ! said=$(install "$folder/bin" --dry-run --requirement "$locks/torch-cpu.txt" 2>&1); then
        [[ $said != *HASHES* ]] || { echo "$said" >&2; exit 1; }
        torch=cuda
    fi
    echo "torch: the build for $torch."
fi
# First: no other lock names a package of CUDA's, and what the whole lock says of torch is met by cpu and cuda.
install "$folder/bin" --only-binary :all: --requirement "$locks/torch-$torch.txt"

# What has no wheel is built where nothing else is: by the locked tools, which fetch nothing.
build=$folder/.build
"$python" -m venv --clear "$build"
install "$build/bin" --only-binary :all: --requirement "$locks/build.txt"
from_source() { # LOCK
    PATH=$(realpath -- "$build/bin"):$PATH "$build/bin/python" -m pip wheel -qq --no-deps --require-hashes \
        --no-build-isolation --use-pep517 --wheel-dir "$build/wheels" --requirement "$1"
    sed -nE 's/^([^ #]+==[^ ]+).*/\1/p' "$1" > "$build/names"
    "$folder/bin/python" -m pip install -qq --no-deps --no-index --find-links "$build/wheels" --requirement "$build/names"
}
from_source "$locks/source.txt"

if [ "$torch" != gpu ]; then
    install "$folder/bin" --only-binary :all: --requirement "$locks/lock.txt"
else
    sed '/^torch==/,/# via/d' "$locks/lock.txt" > "$build/lock.txt"
    install "$folder/bin" --only-binary :all: --requirement "$build/lock.txt"
    # These compile against torch, and would rather fetch what others compiled. Of mamba-ssm the Triton kernels are used.
    # Headers that the toolkit has not, such as cuDNN's, come with torch's packages.
    packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$packages" > "$("$build/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"
    CPATH=$(realpath -- "$packages"/nvidia/*/include | paste -sd:)
    export CPATH
    export CAUSAL_CONV1D_FORCE_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE
    export NVTE_PYTORCH_FORCE_BUILD=TRUE NVTE_NO_LOCAL_VERSION=1
    from_source "$locks/source-gpu.txt"
fi
rm -rf "$build"
