#!/bin/sh
# completion.sh - the completion files are what drover's help says now, and bash completes with them.
. "$(dirname "$0")/../lib/e2e.sh"
mkdir made
DROVER=$prog "$SRC/tools/gen_completion.sh" made
for f in drover.bash _drover; do
    if cmp -s "made/$f" "$SRC/completion/$f"; then ok; else fail "completion/$f is stale: make completion"; fi
done

# offers WORD...: what bash offers for the last word, on one line
offers() {
    bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _drover; echo "${COMPREPLY[*]}"' \
        bash "$SRC/completion/drover.bash" "$@"
}
if have bash; then
    if [ "$(offers drover hel)" = help ]; then ok; else fail "bash completes hel to: $(offers drover hel)"; fi
    if [ "$(offers drover help --a)" = --all ]; then ok; else fail "bash completes help --a to: $(offers drover help --a)"; fi
    drover help --complete | awk -F '\t' '$2 == "" { print $1 }' >all
    for c in $(offers drover ''); do echo "$c"; done | grep -v '^-' >offered
    if cmp -s all offered; then ok; else fail "bash offers other commands: $(diff all offered)"; fi
else
    skip "bash is not here"
fi
if have zsh; then
    if zsh -n "$SRC/completion/_drover"; then ok; else fail "zsh cannot read completion/_drover"; fi
else
    skip "zsh is not here"
fi
finish
