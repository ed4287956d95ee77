#!/bin/sh
# Fuzzes every target, or those named, for FUZZ_SECONDS each (20 by default). What is found goes to
# target/fuzz/; a finding of worth belongs into corpus/, with its fix.
set -eu
cd "$(dirname "$0")"
seconds=${FUZZ_SECONDS:-20}
targets=${*:-"pipeline interpolation frame action manifest lease checkpoint safetensors"}
host=$(rustc -vV | sed -n 's/^host: //p')
# Stable Rust can count the edges taken, which is what libFuzzer steers by. With a target named, what only
# runs while building is left alone.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo build --locked --release --bins --target "$host" --target-dir ../target/fuzz
places=../target/fuzz/places
mkdir -p "$places"
for target in $targets; do
    found=../target/fuzz/found/$target
    grown=../target/fuzz/grown/$target
    mkdir -p "$found" "$grown"
    echo "== $target, $seconds s"
    TMPDIR=$(mktemp -d "$places/XXXXXX") && export TMPDIR
    "../target/fuzz/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=16384 -artifact_prefix="$found/" -print_final_stats=1 "$grown" "corpus/$target" 2>&1 |
        tee "$found/log" | grep -E '^(stat::number_of_executed_units|stat::peak_rss_mb|==|SUMMARY)|panicked|DONE' || true
    rm -rf "$TMPDIR"
    if ls "$found" | grep -qE '^(crash|oom|timeout|leak)-'; then
        echo "$target: see fuzz/$found"
        exit 1
    fi
done
