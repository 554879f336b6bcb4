# bash completion for drover; written by tools/gen_completion.sh from drover's own help
complete -o default drover
