mem.o: src/base/mem.h
