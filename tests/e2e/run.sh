#!/bin/sh
# run.sh - drover run with one prompt: its forms of output, its options, what it refuses.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
. "$SRC/tests/lib/tiny.sh"
tiny m || { fail "no model"; finish; }
export HOME="$T/work"

# json WHAT EXPRESSION ARGS...: the JSON answer d satisfies the Python expression
json() {
    what=$1 expr=$2
    shift 2
    drover run m "$@" --json >out 2>err && python3 -c "
import json, sys
d = json.load(open('out'))
sys.exit(not ($expr))" && ok || fail "$what: $(cat err) $(head -c 300 out)"
}
# no WHAT STATUS REGEX ARGS...: refused with that status and one line that matches
no() {
    what=$1 want=$2 regex=$3
    shift 3
    drover run "$@" >out 2>err </dev/null
    rc=$?
    if [ $rc -eq "$want" ] && [ "$(wc -l <err)" -eq 1 ] && grep -qE -- "$regex" err && [ ! -s out ]; then ok
    else fail "$what: status $rc: $(cat err)"; fi
}
a="--logit-bias 65=1000"

json "form" "d['text'] == 'AAAA' and d['ids'] == [65]*4 and d['finish'] == 'length' and d['prompt_tokens'] > 4" hello -n 4 --temp 0 $a
json "raw" "d['prompt_tokens'] == 6 and d['text'] == 'AA'" hello -n 2 --temp 0 $a --raw
json "raw, control tokens are text" "d['prompt_tokens'] == 15" '<|eot_id|>hell' -n 2 --temp 0 $a --raw
json "raw, control tokens count" "d['prompt_tokens'] == 6" '<|eot_id|>hell' -n 2 --temp 0 $a --raw --special
json "system prompt" "d['prompt_tokens'] > 90" hello --system "be brief" -n 2 --temp 0 $a
json "end of turn" "d['finish'] == 'stop' and d['text'] == '' and len(d['ids']) == 1" hello -n 9 --temp 0 --logit-bias 265=1000
json "ignore it" "d['finish'] == 'length' and len(d['ids']) == 9" hello -n 9 --temp 0 --logit-bias 265=1000 --ignore-eos
json "stop string" "d['finish'] == 'stop' and d['text'] == '' and d['ids'] == [65]*3" hello -n 9 --temp 0 $a --stop AAA --stop B
json "context full" "d['finish'] == 'context' and d['prompt_tokens'] + len(d['ids']) in (150, 151)" hello --temp 0 $a --ctx 150
json "log-probabilities" "len(d['logprobs']) == 3 and len(d['logprobs'][0]['top']) == 2 and d['logprobs'][0]['top'][0]['logprob'] >= d['logprobs'][0]['top'][1]['logprob']" hello -n 3 --n-probs 2 --seed 1
json "samples" "len(d['samples']) == 3 and d['samples'][0]['text'] == d['text'] and d['samples'][1]['ids'] != d['ids']" hello -n 8 --samples 3 --seed 5 --temp 1
json "speeds" "d['prompt_tok_s'] > 0 and d['reply_tok_s'] > 0 and d['seed'] == 7" hello -n 8 --seed 7

# the same seed gives the same ids, whatever the threads; another one does not
ids() { drover run m "hello there" -n 24 --temp 1 --top-p 1 --json "$@" 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["ids"])'; }
one=$(ids --seed 11)
for t in 1 2 3 7; do
    if [ "$(ids --seed 11 -t $t)" = "$one" ]; then ok; else fail "$t threads give other tokens"; fi
done
if [ "$(ids --seed 12)" != "$one" ]; then ok; else fail "another seed, the same tokens"; fi
if [ "$(ids)" != "$(ids)" ]; then ok; else fail "without a seed, the same tokens twice"; fi

# text on stdout, speed on stderr; stdin and files
if [ "$(drover run m hello -n 4 --temp 0 $a 2>err)" = AAAA ] &&
   grep -qE '^\[prompt [0-9]+ tokens, [0-9.]+ tok/s; reply 4 tokens, [0-9.]+ tok/s; ended by -n\]$' err; then ok; else fail "text: $(cat err)"; fi
drover run m hello -n 4 --temp 0 $a -q >out 2>err
if [ ! -s err ]; then ok; else fail "-q says: $(cat err)"; fi
n=$(drover run m hello -n 1 --json $a | python3 -c 'import json,sys; print(json.load(sys.stdin)["prompt_tokens"])')
echo hello >f
for how in "drover run m -n 1 --json $a <f" "drover run m - -n 1 --json $a <f" "drover run m -f f -n 1 --json $a" \
           "drover run m --file=f -n1 --json $a"; do
    if sh -c "$how" 2>err | grep -q "\"prompt_tokens\": $n,"; then ok; else fail "$how: $(cat err)"; fi
done

no "no model" 2 'operand' 
no "an unknown model" 1 'no file or folder nomodel, and drover get knows no such name' nomodel hi
no "a known one that is not here" 1 'is not downloaded: drover get hf:a/b' hf:a/b hi
no "a near miss" 1 'did you mean smollm2' smolm2 hi
no "a wrong option" 2 'unknown option --tmp; did you mean --temp\?' m hi --tmp 1
no "one dash" 2 'unknown option -temp; did you mean --temp' m hi -temp 1
no "out of range" 2 'from 0 to 1, not 2' m hi --top-p 2
no "no number" 2 'wants a number, not "x"' m hi -n x
no "no value" 2 'wants a value' m hi -n
no "a choice" 2 'one of stop.shift' m hi --context-full maybe
no "a bias" 1 'wants ID=X' m hi -n 1 --logit-bias 3
no "a bias of no token" 1 'token 99999' m hi -n 1 --logit-bias 99999=1
no "an unknown format" 1 'llama9' m hi --template llama9
no "a template that is not there" 1 'nofile' m hi --chat-template-file nofile
echo '{% for m in messages %}{{ m.content | nope }}{% endfor %}' >t.jinja
no "a template that is not understood" 1 "t.jinja: line 1 of the chat template: the filter 'nope'" m hi --chat-template-file t.jinja
no "variables that are no object" 1 'wants a JSON object' m hi --template-kwargs '[1]'
no "variables for a format" 1 'have no place' m hi --template llama3 --template-kwargs '{}'
echo '{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}{% endfor %}{{ extra }}' >t.jinja
one=$(drover run m hello -n 1 --json $a --chat-template-file t.jinja 2>err | python3 -c 'import json,sys; print(json.load(sys.stdin)["prompt_tokens"])')
two=$(drover run m hello -n 1 --json $a --chat-template-file t.jinja --template-kwargs '{"extra": "abc"}' 2>err | python3 -c 'import json,sys; print(json.load(sys.stdin)["prompt_tokens"])')
if [ "$one" = 12 ] && [ "$two" = 15 ]; then ok; else fail "a template of one's own: $one and $two tokens, 12 and 15 wanted: $(cat err)"; fi
no "a format without its tokens" 1 'im_start' m hi --template chatml
no "an order" 1 'unknown sampling step' m hi -n 1 --order top_k,foo
no "an empty stop string" 1 'empty' m hi -n 1 --stop ''
no "too long a prompt" 1 'the prompt has [0-9]+ tokens, the context 20 positions' m hi --ctx 20
no "two prompts" 1 'one of them is wanted' m hi -f f
no "no file" 1 'cannot open nofile' m -f nofile

if drover run m -f /dev/null --raw -n 1 --json 2>err | grep -q '"prompt_tokens": 1,'; then ok; else fail "raw and empty: $(cat err)"; fi

# Ctrl-C in one answer: what there was is printed, the status is 1
drover run m hello --temp 0 $a --ctx 2048 --ignore-eos >out 2>err &
p=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s out ] && break; sleep 0.1; done
kill -INT $p 2>/dev/null
wait $p
rc=$?
if { [ $rc -eq 1 ] && grep -q 'ended by Ctrl-C' err; } || grep -q 'full context' err; then ok; else fail "Ctrl-C: $rc $(cat err)"; fi
# a reader that goes away
drover run m hello --temp 0 $a -n 500 2>err | head -c 3 >out
if grep -q 'cannot write' err; then ok; else fail "a closed pipe: $(cat err)"; fi
finish
