# make [BUILD=release|debug|asan|ubsan|tsan]     all | check | install | lint | clean
#   make                 the program, at ./drover
#   make check           every test that needs neither network, GPU nor a peer
#   make install PREFIX=/usr/local DESTDIR=
# docs/building.md says what each target and variable does.
BUILD ?= release
O := build/$(BUILD)
-include config.mk                       # your own settings; not in git

ifeq ($(origin CC),default)
CC := gcc
endif
AR      ?= ar
PREFIX  ?= /usr/local
VERSION := $(shell cat VERSION)
ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))

CSTD   := -std=c17 -D_POSIX_C_SOURCE=200809L
WARN   := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wundef \
          -Wpointer-arith -Wwrite-strings -Wno-format-truncation -Wno-missing-field-initializers
ifdef WERROR
WARN   += -Werror
endif
OPT_release := -O2 -g
OPT_debug   := -O0 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -g -fsanitize=thread
OPT  := $(OPT_$(BUILD))
ifeq ($(OPT),)
$(error BUILD=$(BUILD) is not one of release debug asan ubsan tsan)
endif
CFLAGS += $(CSTD) $(WARN) $(OPT) -fPIC -fvisibility=hidden -fno-math-errno -ffp-contract=off \
          -DDR_VERSION='"$(VERSION)"' -Iinclude -Isrc -Itests/lib -MMD -MP
LDLIBS := -ljansson -lpcre2-8 -lcurl -lcrypto -ledit -lutf8proc -ldl -lm -lpthread

# The whole of per-instruction-set building: kern_<level>[_part].c gets that level's flags.
ifeq ($(ARCH),x86_64)
ISA_avx2   := -O3 -mavx2 -mfma -mf16c
ISA_avx512 := -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 \
              -mavx512vbmi -mavx2 -mfma -mf16c -mprefer-vector-width=512
ISA_amx    := $(ISA_avx512) -mamx-tile -mamx-int8 -mamx-bf16
endif
ISA_ref    := -O2 -fno-tree-vectorize
isa = $(if $(filter src/kern/%,$1),$(ISA_$(word 2,$(subst _, ,$(basename $(notdir $1))))))

SRC  := $(sort $(wildcard src/*/*.c))
OBJ  := $(SRC:%.c=$(O)/%.o)
MAIN := $(O)/src/cli/main.o
LIBO := $(filter-out $(MAIN),$(OBJ))
UNIT := $(patsubst tests/%.c,$(O)/tests/%,$(sort $(wildcard tests/unit/*.c tests/golden/*.c)))
KERN := $(patsubst tests/%.c,$(O)/tests/%,$(sort $(wildcard tests/kern/*.c)))

all: drover
drover: $(O)/drover
	@cmp -s $< $@ || cp -f $< $@
$(O)/libdrover.a: $(LIBO)
	@rm -f $@
	$(AR) rcs $@ $^
$(O)/drover: $(MAIN) $(O)/libdrover.a
	$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(UNIT): $(O)/tests/%: $(O)/tests/%.o $(O)/libdrover.a
	$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(KERN): $(O)/tests/%: $(O)/tests/%.o $(O)/tests/lib/t.o $(O)/libdrover.a
	$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(call isa,$<) -c -o $@ $<

check: lint hdrcheck drover $(UNIT) $(KERN)
	@tests/run.sh $(UNIT) $(KERN)
# Each header must compile on its own, so that include order never matters.
HDR := $(filter-out src/kern/vec_% src/kern/%_body.h,$(wildcard include/*.h src/*/*.h))
hdrcheck: $(HDR:%=$(O)/%.ok)
$(O)/%.h.ok: %.h
	@mkdir -p $(@D)
	@$(CC) $(filter-out -MMD -MP,$(CFLAGS)) -Wno-unused-function -x c -fsyntax-only $< && touch $@
lint:
	@tools/lint.sh
clean:
	rm -rf build drover
.PHONY: all check hdrcheck lint clean
.SECONDARY:
-include $(OBJ:.o=.d) $(UNIT:=.d) $(KERN:=.d)
