tensors.o: src/format/tensors.h src/base/block.h src/base/err.h \
 include/drover.h src/base/span.h src/format/gguf.h
src/base/block.h:
src/base/err.h:
include/drover.h:
src/base/span.h:
src/format/gguf.h:
