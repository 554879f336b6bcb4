#!/bin/sh
# examples.sh - the programs of examples/ are short, and do what they say on a real model.
. "$(dirname "$0")/../lib/e2e.sh"
bin=${O:-$SRC/build/release}/examples
for f in "$SRC"/examples/*.c; do
    if [ "$(wc -l <"$f")" -le 80 ]; then ok; else fail "$f has more than 80 lines"; fi
    name=$(basename "$f" .c)
    [ -x "$bin/$name" ] || { fail "$name is not built: make examples"; continue; }
    if "$bin/$name" 2>err; then fail "$name without arguments ends 0"
    elif [ $? -eq 2 ] && grep -q '^usage: ' err; then ok; else fail "$name without arguments: $(cat err)"; fi
done
if "$bin/answer" nothing.gguf hello 2>err; then fail "a missing model ends 0"
elif [ "$(wc -l <err)" -eq 1 ] && grep -q nothing.gguf err; then ok; else fail "a missing model: $(cat err)"; fi
have smollm2 || { skip "examples on a model: needs smollm2"; finish; }
model=$(drover get smollm2 2>/dev/null)

# says WHAT REGEX COMMAND...: it ends 0 and its output matches
says() {
    what=$1 regex=$2; shift 2
    if "$@" >out 2>err && grep -qE -- "$regex" out; then ok; else
        fail "$what: $(cat out err)"; fi
}
says next '^0\.[0-9]+	[0-9]+	" Paris"$' "$bin/next" "$model" "The capital of France is"
if [ "$(wc -l <out)" = 5 ]; then ok; else fail "next: not five lines"; fi
says answer '[a-z]' "$bin/answer" "$model" "Say hello."
says complete '^The capital of France is Paris' "$bin/complete" "$model" "The capital of France is" 8
if grep -q '8 written' err; then ok; else fail "complete: $(cat err)"; fi
says json '^\{"city":".*","population":[0-9]+\}$' "$bin/json" "$model" "Name a city and its population, as JSON." \
    '{"type":"object","properties":{"city":{"type":"string","maxLength":30},"population":{"type":"integer","minimum":0}},"required":["city","population"],"additionalProperties":false}'
printf 'My name is Ann.\nWhat is my name?\n' >turns
says conversation '[a-z]' sh -c "'$bin/conversation' '$model' <turns"
if grep -qE '^\[turn 2: [1-9][0-9]+ of' err; then ok; else fail "conversation: turn 2 read all again: $(cat err)"; fi
head -c 2000 "$SRC/README.md" >text
says "resume, first" . "$bin/resume" "$model" text state "What is drover?"
cp out first
says "resume, again" . "$bin/resume" "$model" text state "What is drover?"
if cmp -s out first; then ok; else fail "resume says something else from the file: $(cat first out)"; fi
finish
