#!/usr/bin/env bash
# Every figure of docs/speed.md on this CPU, into benchmarks/results; the machine should be quiet.
#
#     benchmarks/speed.sh                        # 2 threads
#     THREADS=8 benchmarks/speed.sh train        # one part: train, sample, rest
#
# The molecules of S3 are looked for in ../shared/data; without them, random tokens of like lengths take their place.
set -eu
cd "$(dirname "$0")/.."
THREADS=${THREADS:-2} TURNS=${TURNS:-5}
export OMP_NUM_THREADS=$THREADS
PYTHON=${PYTHON:-.venv/bin/python}
ZINC=../shared/data/smiles/zinc250k.csv.xz
[ -f "$ZINC" ] && S3=(--data "$ZINC") || S3=()
OUT=benchmarks/results

train() {
    local one=("$PYTHON" -m benchmarks.train --threads "$THREADS" --turns "$TURNS" --baseline)
    {  # of textbook steps of one config the last counts: those beside our plain float32 step
        "${one[@]}" --config S1 --dtype bfloat16 --no-memory
        "${one[@]}" --config S2 --dtype bfloat16 --no-memory --steps 4
        "${one[@]}" --config S2 --compile --no-memory --steps 4
        "${one[@]}" --config S1 --checkpoint
        "${one[@]}" --config S1 --time-free
        "${one[@]}" --config S2 --time-free --steps 4
        "${one[@]}" --config S3 "${S3[@]}"
    } > "$OUT/train.jsonl.new"
    mv "$OUT/train.jsonl.new" "$OUT/train.jsonl"
}

sample() {
    local one=("$PYTHON" -m benchmarks.sample --threads "$THREADS" --turns "$TURNS")
    {
        "${one[@]}" --config S1 --steps 64
        "${one[@]}" --config S2 --steps 64
        "${one[@]}" --config S1 --steps 1024
        "${one[@]}" --config S2 --steps 1024
        "${one[@]}" --config S1 --steps 64 --precision bfloat16
    } > "$OUT/sample.jsonl.new"
    mv "$OUT/sample.jsonl.new" "$OUT/sample.jsonl"
}

rest() {
    "$PYTHON" -m benchmarks.heads --threads "$THREADS" --turns "$TURNS" > "$OUT/heads.jsonl"
    "$PYTHON" -m benchmarks.loader --threads "$THREADS" "${S3[@]}" > "$OUT/loader.jsonl"
    "$PYTHON" -m benchmarks.blocks --threads "$THREADS" --lengths 512 1024 2048 8192 --turns 3 > "$OUT/blocks.jsonl"
    "$PYTHON" -m benchmarks.breakdown S1 S2 --threads "$THREADS"
    "$PYTHON" -m benchmarks.limits --measure --threads "$THREADS" --write
}

for part in ${*:-train sample rest}; do "$part"; done
