pool.o: src/base/pool.h src/base/err.h include/drover.h
src/base/err.h:
include/drover.h:
