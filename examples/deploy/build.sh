#!/usr/bin/env bash
# Makes the folder that Lambda gets: dynaflow without extras, what that needs, and examples/orders.
#
#   build.sh FOLDER                    for Lambda's own Python runtime
#   build.sh FOLDER --runtime-client   for a runtime of your own: with bootstrap and awslambdaric
#
# Libraries come as wheels for PLATFORM (aarch64, x86_64, or native: this machine) and
# PYTHON_VERSION, whatever machine this is. PYTHON is the interpreter whose pip is used.
set -euo pipefail

folder=${1:?usage: build.sh FOLDER [--runtime-client]}
wanted=${2:-}
python=${PYTHON:-python3}
platform=${PLATFORM:-aarch64}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..

target=(--no-compile --constraint "$here/constraints.txt" --target "$folder")
if [[ $platform != native ]]; then
    target+=(--only-binary=:all: --implementation cp --python-version "${PYTHON_VERSION:-3.13}")
    target+=(--platform "manylinux_2_28_$platform" --platform "manylinux2014_$platform")
fi

if [[ -n $(ls -A "$folder" 2>/dev/null) ]]; then
    echo "$folder is not empty; what is left over in it would be deployed" >&2
    exit 2
fi
mkdir -p "$folder"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$python" -m pip wheel -q --no-deps --wheel-dir "$wheels" "$root"

requirements=("$wheels"/dynaflow-*.whl)
if [[ $wanted == --runtime-client ]]; then
    requirements+=(awslambdaric)
    install -m 755 "$here/custom-runtime/bootstrap" "$folder/bootstrap"
fi
"$python" -m pip install -q "${target[@]}" "${requirements[@]}"
rm -rf "${folder:?}/bin" # scripts of the libraries, for another machine
cp "$root/examples/orders/app.py" "$folder/app.py"
chmod -R u=rwX,go=rX "$folder" # Lambda's user is another one
