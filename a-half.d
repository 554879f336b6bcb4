half.o: src/base/half.h
