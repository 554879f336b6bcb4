chat.o: src/text/chat.h src/text/tokenizer.h src/base/buf.h \
 src/base/err.h include/drover.h src/base/span.h src/format/gguf.h
src/text/tokenizer.h:
src/base/buf.h:
src/base/err.h:
include/drover.h:
src/base/span.h:
src/format/gguf.h:
