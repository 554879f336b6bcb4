#!/bin/sh
# gen_completion.sh - write completion/drover.bash and completion/_drover from `drover help --complete`.
# usage: tools/gen_completion.sh [FOLDER]        (make completion; FOLDER: completion)
# make check fails when they are stale (tests/e2e/completion.sh). An option's argument that reads
# a|b|c completes to those words, anything else to file names; operands to file names and to the
# models that `drover list` knows.
set -eu
dir=${1:-$(dirname "$0")/../completion}
drover=${DROVER:-$(dirname "$0")/../drover}
tab=$(mktemp)
trap 'rm -f "$tab"' EXIT
"$drover" help --complete >"$tab"
commands=$(awk -F '\t' '$2 == "" { printf "%s%s", sep, $1; sep = " " }' "$tab")

{
    echo "# bash completion for drover; written by tools/gen_completion.sh from drover's own help"
    cat <<'END'
_drover() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
    COMPREPLY=()
END
    printf '    if [ "$COMP_CWORD" -eq 1 ]; then\n        words="%s --help --version"\n    else\n' "$commands"
    printf '        case "${COMP_WORDS[1]} $prev" in\n'
    awk -F '\t' '$2 != "" && $3 ~ /\|/ { n = split($2, a, ","); w = $3; gsub(/\|/, " ", w)
        printf "            "; for (i = 1; i <= n; i++) printf "%s\"%s %s\"", (i > 1 ? "|" : ""), $1, a[i]
        printf ") words=\"%s\" ;;\n", w }' "$tab"
    cat <<'END'
        esac
        if [ -z "$words" ]; then
            case "${COMP_WORDS[1]}:$cur" in
END
    awk -F '\t' 'function flush() { if (cmd != "") printf "                %s:-*) words=\"%s\" ;;\n", cmd, list }
        $2 == "" { flush(); cmd = $1; list = ""; next }
        { gsub(/,/, " ", $2); list = (list == "" ? $2 : list " " $2) }
        END { flush() }' "$tab"
    printf '                help:*) words="%s" ;;\n' "$commands"
    cat <<'END'
                *) words=$(drover list 2>/dev/null </dev/null | sed -n 's/^\([a-z0-9][a-z0-9.-]*\) .*/\1/p') ;;
            esac
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _drover drover
END
} >"$dir/drover.bash"

{
    echo '#compdef drover'
    echo "# zsh completion for drover; written by tools/gen_completion.sh from drover's own help"
    echo '_drover() {'
    echo '    local -a commands models'
    echo '    commands=('
    awk -F '\t' -v q="'" 'function quote(s) { gsub(q, q "\\" q q, s); return s }
        function esc(s) { gsub(/:/, "\\:", s); return quote(s) }
        $2 == "" { printf "        %s%s:%s%s\n", q, $1, esc($4), q }' "$tab"
    cat <<'END'
    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    models=(${(f)"$(drover list 2>/dev/null </dev/null | sed -n 's/^\([a-z0-9][a-z0-9.-]*\) .*/\1/p')"})
    local cmd=$words[2]
    shift words
    (( CURRENT-- ))
    case $cmd in
END
    awk -F '\t' -v q="'" '
        function esc(s) { gsub(/\\/, "\\\\", s); gsub(/\[/, "\\[", s); gsub(/\]/, "\\]", s); gsub(/:/, "\\:", s); gsub(q, q "\\" q q, s); return s }
        function flush() { if (cmd == "") return
            what = cmd == "help" ? "command:{_describe command commands}" : "model or file:{compadd -a models; _files}"
            printf "            %s*:%s%s ;;\n", q, what, q }
        $2 == "" { flush(); cmd = $1; printf "        %s) _arguments -S \\\n", cmd; next }
        { n = split($2, a, ","); act = ""
          if ($3 != "") { act = ":" esc($3) ":"; w = $3; gsub(/\|/, " ", w)
              act = act ($3 ~ /\|/ ? "(" w ")" : "_files") }
          for (i = 1; i <= n; i++)
              printf "            %s%s[%s]%s%s \\\n", q, a[i], esc($4), act, q }
        END { flush() }' "$tab"
    cat <<'END'
    esac
}
_drover "$@"
END
} >"$dir/_drover"
