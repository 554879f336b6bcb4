# tiny.sh - sourced: tiny FOLDER [SHAPE [OPTIONS...]] makes a random model over bytes, 3 MB, in the
# format of the official vocabulary (chat format llama3); needs python3.
tiny() {
    dir=$1 shape=${2:-tiny,vocab=512,ctx=2048}
    shift; [ $# -eq 0 ] || shift
    drover synth --shape "$shape" --out "$dir" -q "$@" &&
    python3 -c "
import base64
open('$dir/tokenizer.model', 'w').writelines('%s %d\n' % (base64.b64encode(bytes([i])).decode(), i) for i in range(256))"
}
