#!/usr/bin/env bash
# Makes an environment of the locks, whose every file has to have a hash that they name: install.sh PYTHON FOLDER [TORCH].
# TORCH is the build of torch, cpu or cuda: one that is not said is cpu where pip finds that build, else cuda.
set -euo pipefail
python=$1 folder=$2 torch=${3:-}
locks=$(dirname -- "${BASH_SOURCE[0]}")

install() { # BIN ARGUMENT...
    "$1/python" -m pip install -qq --no-deps --require-hashes "${@:2}"
}

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
[ -f "$locks/torch-$torch.txt" ] || { echo "There is no build of torch called '$torch': say TORCH=cpu or TORCH=cuda." >&2; exit 2; }
# First: what the whole lock says of torch is met by either build, and it names no package of CUDA's.
install "$folder/bin" --only-binary :all: --requirement "$locks/torch-$torch.txt"

# What has no wheel is built where nothing else is: by the locked setuptools, which fetches nothing.
"$python" -m venv --clear "$folder/.build"
install "$folder/.build/bin" --only-binary :all: --requirement "$locks/build.txt"
"$folder/.build/bin/python" -m pip wheel -qq --no-deps --require-hashes --no-build-isolation --use-pep517 \
    --wheel-dir "$folder/.build/wheels" --requirement "$locks/source.txt"
sed -nE 's/^([^ #]+==[^ ]+).*/\1/p' "$locks/source.txt" > "$folder/.build/names"
"$folder/bin/python" -m pip install -qq --no-deps --no-index --find-links "$folder/.build/wheels" --requirement "$folder/.build/names"

install "$folder/bin" --only-binary :all: --requirement "$locks/lock.txt"
rm -rf "$folder/.build"
