# bash completion for drover; written by tools/gen_completion.sh from drover's own help
_drover() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="help --help --version"
    else
        case "${COMP_WORDS[1]} $prev" in
        esac
        if [ -z "$words" ]; then
            case "${COMP_WORDS[1]}:$cur" in
                help:-*) words="--all -h --help" ;;
                help:*) words="help" ;;
                *) words=$(drover list 2>/dev/null </dev/null | sed -n 's/^\([a-z0-9][a-z0-9.-]*\) .*/\1/p') ;;
            esac
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _drover drover
