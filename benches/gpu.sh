#!/bin/sh
# What gradus does on a CUDA machine that has a Python with torch 2.11: does it start, does it compute what the CPU
# computes, does it compute it twice alike, and how fast. Figures go to the folder OUT (benches/results/ by default).
#
# usage: sh benches/gpu.sh [GRADUS [PART]...]     (default: target/release/gradus, with gradus-worker beside it; parts:
# correctness, speed, robustness, transformers)
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
gradus=${1:-$here/target/release/gradus}
[ $# -eq 0 ] || shift
exec python3 "$here/benches/gpu/measure.py" "$gradus" "${OUT:-$here/benches/results}" "$@"
