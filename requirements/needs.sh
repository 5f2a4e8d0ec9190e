#!/usr/bin/env bash
# What setting up needs, checked before anything is downloaded: needs.sh PYTHON FOLDER, which says what is missing and
# exits with 2. FOLDER is where the environment is to be.
set -euo pipefail
python=$1 folder=$2
gib=${NEEDS_GIB:-4}  # the environment takes 2.6 GB, the rest is pip's scratch and a debug run

refuse() {
    echo "nemo-distill $1" >&2
    exit 2
}

[ "$(uname -s)" = Linux ] || refuse "runs on Linux, and this is $(uname -s): take a Linux machine or a container."
command -v "$python" >/dev/null || refuse "needs Python 3.11 or 3.12, and there is no '$python': name one with PYTHON=..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=
case $version in
    3.11 | 3.12) ;;
    '') refuse "needs Python 3.11 or 3.12, and '$python' is no Python: name one with PYTHON=..." ;;
    *) refuse "needs Python 3.11 or 3.12, and '$python' is $version: name another with PYTHON=..." ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null || refuse "needs Python's venv, which '$python' lacks: on Debian or Ubuntu, apt install python$version-venv."
command -v git >/dev/null || refuse "needs git, which is not here: a run records the commit that made it."
there=$folder
until [ -e "$there" ]; do there=$(dirname -- "$there"); done
[ -w "$there" ] || refuse "cannot be set up in '$folder': no permission in '$there'; name another folder with VENV=..."
free=$(($(df -Pk -- "$there" | awk 'END { print $(NF - 2) }') / 1048576))
[ "$free" -ge "$gib" ] || refuse "needs $gib GiB of disk for its packages, and '$there' has $free: make room, or name another folder with VENV=..."
