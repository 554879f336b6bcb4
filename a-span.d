span.o: src/base/span.h
