rd.o: src/format/rd.h src/base/span.h
src/base/span.h:
