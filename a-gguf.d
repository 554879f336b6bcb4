gguf.o: src/format/gguf.h src/base/err.h include/drover.h src/base/span.h
src/base/err.h:
include/drover.h:
src/base/span.h:
