#!/bin/sh
# Every strategy and every way to finish, on the embedded local model: no key, no network once it is made.
# Each run leaves a trace; the last lines list them.
#
#   sh examples/strategies_and_finishes.sh                 four runs, in which each strategy and finish has one
#   sh examples/strategies_and_finishes.sh all             all sixteen pairs
#   sh examples/strategies_and_finishes.sh all "Why?"      with a question of your own
#
# MOA names the program, TRACES the folder of the traces.
set -eu

which=${1:-four}
question=${2:-"A shop sells pens at 3 dollars. How many dollars are 4 pens? End with: Answer: and the number."}
moa=${MOA:-moa}
traces=${TRACES:-logs/moa}

pairs="model/synthesize role/rank temperature/sequential self/vote"
if [ "$which" = all ]; then
    pairs=""
    for strategy in model role temperature self; do
        for finish in synthesize sequential rank vote; do
            pairs="$pairs $strategy/$finish"
        done
    done
fi

for pair in $pairs; do
    strategy=${pair%/*} finish=${pair#*/}
    printf '\n== strategy %s, finish %s\n' "$strategy" "$finish"
    case $finish in
    vote) extra="--extract number" ;;
    sequential) extra="--window 2" ;;
    *) extra="" ;;
    esac
    # $moa and $extra are several words where they are any.
    $moa ask "$question" --layers 2 --strategy "$strategy" --finish "$finish" $extra \
        --max-tokens 64 --seed 1 --progress --trace-dir "$traces"
done

printf '\n== traces\n'
$moa trace ls "$traces"
