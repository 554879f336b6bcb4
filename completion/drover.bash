# bash completion for drover; written by tools/gen_completion.sh from drover's own help
_drover() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="run serve get list rm info convert merge quantize imatrix prep train bench chat-render logits perplexity synth tokenize verify grammar-check help --help --version"
    else
        case "${COMP_WORDS[1]} $prev" in
            "run --context-full") words="stop shift" ;;
            "run --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "run --spec") words="auto none ngram draft" ;;
            "run --load") words="map copy" ;;
            "run --numa") words="off distribute isolate" ;;
            "serve --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "serve --spec") words="auto none ngram" ;;
            "serve --load") words="map copy" ;;
            "serve --numa") words="off distribute isolate" ;;
            "info --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "info --load") words="map copy" ;;
            "info --numa") words="off distribute isolate" ;;
            "convert --to") words="auto gguf safetensors meta" ;;
            "merge --to") words="auto gguf safetensors meta" ;;
            "imatrix --format") words="auto gguf dat" ;;
            "imatrix --load") words="map copy" ;;
            "imatrix --numa") words="off distribute isolate" ;;
            "prep --format") words="auto jsonl csv tsv text" ;;
            "prep --split") words="file line blank" ;;
            "train --load") words="map copy" ;;
            "train --numa") words="off distribute isolate" ;;
            "bench --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "bench --load") words="map copy" ;;
            "bench --numa") words="off distribute isolate" ;;
            "logits --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "logits --load") words="map copy" ;;
            "logits --numa") words="off distribute isolate" ;;
            "perplexity --kv-type") words="f16 bf16 f32 q8_0 q4_0" ;;
            "perplexity --load") words="map copy" ;;
            "perplexity --numa") words="off distribute isolate" ;;
            "verify --load") words="map copy" ;;
            "verify --numa") words="off distribute isolate" ;;
        esac
        if [ -z "$words" ]; then
            case "${COMP_WORDS[1]}:$cur" in
                run:-*) words="-n --tokens -f --file --system --raw --special --template --chat-template-file --template-kwargs --stop --json-schema --grammar --regex -c --ctx --context-full --kv-type --spec --draft --draft-max --draft-min --samples --ignore-eos --json -q --quiet --no-history --lora -t --threads --load --numa -v --verbose --temp --top-k --top-p --min-p --typical-p -s --seed --repeat-penalty --presence-penalty --frequency-penalty --repeat-last-n --dry-multiplier --dry-base --dry-allowed-length --dry-last-n --dry-breaker --xtc-probability --xtc-threshold --logit-bias --order --logprobs --n-probs -h --help" ;;
                serve:-*) words="--host -p --port --unix --tls-cert --tls-key --api-key --api-key-file --public-without-key --cors --name --max-body --max-bodies --max-head --max-conns --max-conns-per-ip --idle-timeout --read-timeout --ping --workers --max-jobs --lora --lora-dir --lazy --idle-unload --max-open --memory -c --ctx --kv-positions --kv-type --parallel --queue --step --spec --draft-max --prefix-store --prefix-store-size --grace --sandbox --sandbox-allow -q --quiet -t --threads --load --numa -v --verbose -h --help" ;;
                get:-*) words="--again --check --json --tries -h --help" ;;
                list:-*) words="--json -h --help" ;;
                rm:-*) words="-h --help" ;;
                info:-*) words="-c --ctx -b --batch --kv-type --tensors --meta --json --lora -t --threads --load --numa -v --verbose -h --help" ;;
                convert:-*) words="--type --to --max-shard-size --shards -f --force -t --threads -q --quiet -h --help" ;;
                merge:-*) words="--lora --weights --type --to --max-shard-size --shards -f --force -t --threads -q --quiet -h --help" ;;
                quantize:-*) words="--imatrix --tensor-type --output-type --embd-type --pure --search --dry-run --max-shard-size --shards -f --force -t --threads -q --quiet -h --help" ;;
                imatrix:-*) words="-f --file --chat -o --out -c --ctx --chunks --format --process-output --special -q --quiet -t --threads --load --numa -v --verbose -h --help" ;;
                prep:-*) words="-o --out --format --field --split --separator --no-bos --end --shard-tokens --eval-out --eval-every --force --check -t --threads --json -q --quiet -h --help" ;;
                train:-*) words="--set --until --dry-run --status --curve --export --type --step --force --keys --json -q --quiet -t --threads --load --numa -v --verbose -h --help" ;;
                bench:-*) words="-p --prompt -n --gen -d --depth -b --batch -r --reps --shape --type --text --draft --kv-type --json --lora -t --threads --load --numa -v --verbose -h --help" ;;
                chat-render:-*) words="-f --template-file -i --json-input --openai --now --ids --json -h --help" ;;
                logits:-*) words="--ids --out --chunk --last --kv-type --lora -t --threads --load --numa -v --verbose -h --help" ;;
                perplexity:-*) words="-f --file --ids -c --ctx --save-logits --kl --kv-type --json --lora -t --threads --load --numa -v --verbose -h --help" ;;
                synth:-*) words="--shape --type -o --out --tokenizer --cut --seed --shard --shards -t --threads -q --quiet -h --help" ;;
                tokenize:-*) words="-f --file --no-bos --special -d --decode -h --help" ;;
                verify:-*) words="--make --against --json -t --threads --load --numa -v --verbose -h --help" ;;
                grammar-check:-*) words="-f --file -h --help" ;;
                help:-*) words="--all -h --help" ;;
                help:*) words="run serve get list rm info convert merge quantize imatrix prep train bench chat-render logits perplexity synth tokenize verify grammar-check help" ;;
                *) words=$(drover list 2>/dev/null </dev/null | sed -n 's/^\([a-z0-9][a-z0-9.-]*\) .*/\1/p') ;;
            esac
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _drover drover
