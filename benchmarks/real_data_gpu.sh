#!/usr/bin/env bash
# All real-data runs side by side on one large GPU; each writes one JSON file into the folder OUT.
#
#   bash benchmarks/real_data_gpu.sh DATA OUT [MINUTES] [NAME ...]
#
# MINUTES is each run's training budget (7). NAMEs choose runs; all of them by default. The absorbing-against-uniform and
# the loss comparison runs differ from their partner in the named part alone.
set -u
data=$1 out=$2 minutes=${3:-7}
shift $(($# < 3 ? $# : 3))
chosen=" $* "
mkdir -p "$out"
export OMP_NUM_THREADS=2 PYTHONPATH=${PYTHONPATH:-.} PYTHONUNBUFFERED=1
rate="--training.learning_rate 2e-3 --training.max_steps 100000"
smiles="--network.dim 512 --network.depth 8 --network.heads 8 --training.batch_size 256 $rate"
text="--network.dim 512 --network.depth 8 --network.heads 8 --training.batch_size 128 --data.length 256 $rate"
uniform="--process.class_path Uniform --parameterization.class_path Denoiser --loss.class_path ScoreEntropy"

run() { # name config words
    local name=$1 config=$2
    shift 2
    [[ $chosen == "  " || $chosen == *" $name "* ]] || return 0
    python benchmarks/real_data.py "configs/$config.yaml" --data-root "$data" --result "$out/$name.json" \
        --folder "${TMPDIR:-/tmp}/runs/$name" --threads 2 --training.max_minutes "$minutes" "$@" \
        >"$out/$name.log" 2>&1 &
}

# shellcheck disable=SC2086
{
    run zinc250k zinc250k $smiles --template 'c1ccc(cc1){8}C(=O)N'
    run zinc250k-uniform zinc250k $smiles $uniform --steps 128 --sampling.sampler.class_path Ancestral
    run qm9 qm9 --network.dim 384 --network.depth 8 --network.heads 8 --training.batch_size 512 $rate --template 'CC{6}O'
    run text8 text8 $text --samples 128 --template 'the [MASK:20] of the [MASK:20]'
    run text8-uniform text8 $text --samples 128 $uniform
    run text8-score-entropy text8 $text --samples 64 --loss.class_path ScoreEntropy
    run text8-mask-fraction text8 $text --samples 64 --loss.class_path MaskFractionCrossEntropy
    run wikitext2 wikitext2 $text --samples 64 --network.dropout 0.1 --template 'The [MASK:4] of the city [MASK:8] .'
    run tinyshakespeare tinyshakespeare --network.dim 384 --network.depth 6 --network.heads 6 --network.dropout 0.2 \
        --training.batch_size 128 $rate --samples 128 --template 'ROMEO:[MASK:60]JULIET:[MASK:40]'
    run uniprot uniprot --network.dim 512 --network.depth 8 --network.heads 8 --training.batch_size 128 $rate
    run ecoli_promoters ecoli_promoters --template 'N{14}TTGACAN{17}TATAATN{7}'
    run human_core_promoters human_core_promoters --label 1 --template 'N{4}TATAAAN{60}'
}
wait
tail -n 1 "$out"/*.log
