drover.o: include/drover.h
