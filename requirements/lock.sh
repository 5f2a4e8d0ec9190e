#!/usr/bin/env bash
# Writes requirements/*.txt anew from pyproject.toml, with the SHA-256 of every file that the index has of a version:
# lock.sh UV [OPTION...], from the checkout's root. OPTION is --upgrade for the newest versions; without it they stay.
# requirements/torch-cpu.txt is kept by hand: only PyTorch's own index has that build.
set -euo pipefail
uv=$1 folder=requirements
shift

# Every package is locked at one version for both Pythons, so the markers say nothing: should a package ever need two,
# pip refuses the file for naming it twice.
lock() { # FILE ARGUMENT...
    local file=$folder/$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
        --annotation-style line --custom-compile-command 'make lock' --output-file "$file" "$@" "${upgrade[@]}"
    sed -E -i -e 's/ ; [^\\]*\\$/ \\/' -e 's/-c [^ ,]+(, )?//' -e 's/via, /via /' -e 's/, $//' -e '/^ *# via ?$/d' \
        -e '/^$/,$d' "$file"  # behind an empty line: what was left out
}

upgrade=("$@")
lock lock.txt --excludes $folder/excludes.txt pyproject.toml --extra test --extra dev --extra harnesses
lock docs.txt --group docs
lock audit.txt - <<<'pip-audit>=2.9'

# The rest follows what is in the lock.
upgrade=()
pins=$(sed -nE 's/^([a-z0-9-]+==[^ ]+) .*/\1/p' $folder/lock.txt)
lock torch-cuda.txt --constraint $folder/lock.txt - <<<"$(grep '^torch==' <<<"$pins")"
lock build.txt --constraint $folder/lock.txt $folder/build.in
lock source.txt --constraint $folder/lock.txt --no-deps $folder/source.in

# Of the environment of GPUs what is not as in the lock: wheels, then sources.
others=$(mktemp)
trap 'rm "$others"' EXIT
grep -v '^torch==' <<<"$pins" > "$others"
lock torch-gpu.txt --constraint "$others" pyproject.toml --extra gpu $folder/gpu.in \
    $(sed -E 's/^([^=]+)==.*/--no-emit-package \1/' "$others" <(grep -v '^#' $folder/source-gpu.in))
lock source-gpu.txt --no-deps $folder/source-gpu.in
