#!/bin/sh
# Puts libtorch 2.11.0 where the build and `gradus` look for it: `.libtorch/` beside this project.
#
# An installation that is there wins: a Python's torch of that version (and, in the Makefile, LIBTORCH). Otherwise
# the wheels are fetched with pip: without a GPU just torch and the two CUDA runtime libraries that its CPU half is
# linked against (about 550 MB to download); with one (or GRADUS_CUDA=1) torch with all it depends on.
set -eu
cd "$(dirname "$0")/.."
version=2.11.0
home=$PWD/.libtorch

ready() { [ -f "$home/version" ] && [ "$(cat "$home/version")" = "$version" ] && [ -e "$home/lib/libtorch_cpu.so" ]; }

link_lib_folder() { # $1: site-packages
    mkdir -p "$home/lib"
    ln -sfn "$1/torch/include" "$home/include"
    for file in "$1"/torch/lib/*.so* "$1"/nvidia/*/lib/*.so*; do
        [ -e "$file" ] && ln -sfn "$file" "$home/lib/$(basename "$file")"
    done
    if [ ! -e "$1/torch/lib/libtorch_cuda.so" ]; then
        # The wheel's libtorch.so needs the CUDA half; this linker script asks for the CPU half alone.
        rm -f "$home/lib/libtorch.so" "$home/lib/libtorch_cuda"* "$home/lib/libtorch_nvshmem.so" "$home/lib/libtorch_python.so"
        echo 'INPUT(-ltorch_cpu)' > "$home/lib/libtorch.so"
    fi
    echo "$version" > "$home/version"
}

if ready; then exit 0; fi

site=$(python3 -c 'import importlib.util,importlib.metadata as m,os
spec = importlib.util.find_spec("torch")
if spec and m.version("torch").split("+")[0] == "'$version'": print(os.path.dirname(os.path.dirname(spec.origin)))' 2>/dev/null || true)
if [ -z "$site" ]; then
    site=$home/site
    # What an interrupted fetch left, pip would leave as it is.
    rm -rf "$site"
    echo "libtorch: fetching torch $version into .libtorch/ (this takes a minute or more)"
    if [ -n "${GRADUS_CUDA:-}" ] || command -v nvidia-smi >/dev/null 2>&1; then
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$site" "torch==$version"
    else
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$site" "torch==$version" \
            nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
        # The CUDA half alone takes 1 GB on the disk and cannot load without the wheels left out.
        rm -f "$site"/torch/lib/libtorch_cuda*.so "$site"/torch/lib/libtorch_nvshmem.so
    fi
fi
link_lib_folder "$site"
echo "libtorch: $version is in $home/lib"
