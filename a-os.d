os.o: src/base/os.h src/base/buf.h src/base/err.h include/drover.h \
 src/base/span.h
src/base/buf.h:
src/base/err.h:
include/drover.h:
src/base/span.h:
