buf.o: src/base/buf.h src/base/err.h include/drover.h src/base/span.h
src/base/err.h:
include/drover.h:
src/base/span.h:
