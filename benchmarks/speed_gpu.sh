#!/usr/bin/env bash
# What speed is on one GPU, in eleven minutes at most: kernels that only run there, G1 and G2, sampling, loading.
#
#     benchmarks/speed_gpu.sh OUTPUT_FOLDER
set -u
cd "$(dirname "$0")/.."
OUT=${1:?the folder for the results}
PYTHON=${PYTHON:-python}
mkdir -p "$OUT"
run() {  # seconds, name, command
    local limit=$1 name=$2
    shift 2
    echo "== $name: $*"
    timeout "$limit" "$@" > "$OUT/$name" 2> "$OUT/$name.err" || echo "   failed ($?): $(tail -n 3 "$OUT/$name.err")"
}
run 120 tests.txt "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests
run 90 train-g1.jsonl "$PYTHON" -m benchmarks.train --config G1 --time-free --compile --steps 10 --turns 5
run 60 train-g1-eager.jsonl "$PYTHON" -m benchmarks.train --config G1 --steps 10 --turns 5
run 90 train-g2.jsonl "$PYTHON" -m benchmarks.train --config G2 --time-free --compile --steps 20 --turns 5
run 60 train-g2-eager.jsonl "$PYTHON" -m benchmarks.train --config G2 --steps 20 --turns 5
run 60 loader.jsonl "$PYTHON" -m benchmarks.loader --config G2
run 60 sample-s1.jsonl "$PYTHON" -m benchmarks.sample --config S1 --steps 64 --device cuda
run 60 sample-s2.jsonl "$PYTHON" -m benchmarks.sample --config S2 --steps 64 --device cuda --compile
run 60 blocks.jsonl "$PYTHON" -m benchmarks.blocks --device cuda --dtype bfloat16
# several GPUs, where there are: parts of weights and copies of them take the same losses
GPUS=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
if [ "$GPUS" -gt 1 ]; then
    run 120 topology.jsonl "$PYTHON" -m benchmarks.topology --device cuda --steps 50
fi
echo "results in $OUT"
