err.o: src/base/err.h include/drover.h
include/drover.h:
