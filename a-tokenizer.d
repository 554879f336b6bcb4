tokenizer.o: src/text/tokenizer.h src/base/buf.h src/base/err.h \
 include/drover.h src/base/span.h src/format/gguf.h
src/base/buf.h:
src/base/err.h:
include/drover.h:
src/base/span.h:
src/format/gguf.h:
