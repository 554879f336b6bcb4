block.o: src/base/block.h
